"""What can go wrong with the usage database; the rows of a request that was served are never a client's problem."""


class StoreError(Exception):
    """The usage database cannot be opened; the message names it and says how to mend it. The file is left as it is."""


class StoreUnavailable(Exception):
    """The rows could not be stored now (locked, disk full, not reachable): the same rows may be stored later."""
