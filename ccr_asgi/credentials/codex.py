"""The login of the Codex CLI as a source of credentials, kept fresh together with the CLI and with other processes.

The file is the truth. Each request looks whether it has changed, so a `codex login`, a logout and whatever the CLI or
another process renews hold from the next request on. When the access token ends, one request's need becomes one
refresh for all:

    single flight      one refresh at a time in this event loop, in a task that no leaving client can cancel
    auth.lock          one at a time among all processes (flock, as the CLI takes it)
    read again         somebody else may have renewed it while we waited: then nothing is posted
    post, then write   atomically; what could not be written is kept in memory, said loudly, and tried again
    and if refused     the CLI posts before it locks: it gets a moment to write what it got for the same token

A refusal is remembered until the file changes. An endpoint that fails is left alone for a while, during which the old
token is handed out for what it is worth.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from ccr_asgi.asgi import Headers
from ccr_asgi.credentials.auth_file import AuthFile, Version
from ccr_asgi.credentials.login import Login, Unusable
from ccr_asgi.credentials.single_flight import SingleFlight, joined
from ccr_asgi.credentials.token_endpoint import POST_S, TOKEN_URL, Refused, Renewed, Unavailable, redeem
from ccr_asgi.errors import AuthenticationError, UpstreamError
from ccr_asgi.locks import LockTimeout, file_lock

logger = logging.getLogger(__name__)

HALF_WRITTEN_S = 0.05
"""A file that is not JSON is read again after this pause: somebody may be writing it in place."""
PATIENCE_S = 5.0
"""How long a request waits for a refresh while its token is still good."""
LOCK_S = POST_S + 15.0
"""How long a refresh waits for that of another process: longer than one takes."""
MIN_INTERVAL_S = 60.0
"""A token just obtained is used for this long whatever it says of its end: a wrong clock causes no refresh storm."""
SETTLE_S = 3.0
"""How long a refused refresh waits for the file to change."""
SETTLE_POLL_S = 0.05
BACKOFF_S, MAX_BACKOFF_S = 2.0, 60.0
"""How long a failing token endpoint is left alone: doubled with each failure, up to the limit."""
SAVE_AGAIN_S = 30.0
"""How long after a failed write the next one is tried."""
UNSAVED = (
    "The renewed Codex login could not be written to %s (%s). The tokens in the file are spent, the new ones are in "
    "memory only. The next try comes in %.0f s; if none succeeds, `codex login` is needed after a restart."
)
CLOSE_S = 5.0
"""How long a shutdown waits for a refresh that is under way."""


class CodexLogin:
    """The headers of the ChatGPT login in a Codex `auth.json`, refreshed when need be.

    One instance serves all requests of one provider in one event loop; others (in other loops, threads and processes)
    may share the file.

    Args:
        auth_file: The file; a symlink stays one.
        token_url: Where refresh tokens are redeemed.
        transport: What carries that.
        now: The wall clock, seconds since 1970.
    """

    refreshable = True

    def __init__(
        self,
        auth_file: Path,
        *,
        token_url: str = TOKEN_URL,
        transport: httpx.AsyncBaseTransport,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = AuthFile(auth_file)
        self._token_url = token_url
        self._transport = transport
        self._now = now
        self._refreshing = SingleFlight(self._refresh)
        self._saving = SingleFlight(self._save_at_last)
        self._login: Login | None = None
        self._version: Version | None = None
        # Of the login above, in seconds on the monotonic clock: when it took another's place, when it was issued to us.
        self._obtained_s = self._issued_s = -math.inf
        # What the file still holds though it is spent, when our newer login could not be written yet.
        self._superseded: Login | None = None
        self._save_again_s = math.inf
        self._refusal: str | None = None
        self._failure: str | None = None
        self._backoff_s, self._resume_s = BACKOFF_S, -math.inf

    def __repr__(self) -> str:
        return f"CodexLogin({str(self._file.path)!r})"

    async def headers(self, *, refused: Headers | None = None) -> Headers:
        """`authorization`, and `chatgpt-account-id` if the login tells one.

        Raises:
            AuthenticationError: There is no usable login; it says which file, why, and what to run.
            UpstreamError: The refused token could not be renewed because the token endpoint failed.
        """
        login = await self._current()
        if self._superseded is not None and time.monotonic() >= self._save_again_s:
            self._saving.start()
        if refused is not None and login.headers() == refused:
            return (await self._other_than(login)).headers()
        if login.is_due(self._now()) and time.monotonic() - self._obtained_s >= MIN_INTERVAL_S:
            login = await self._renewed_in_time(login)
        return login.headers()

    async def aclose(self) -> None:
        """Let a refresh end that is under way, for `CLOSE_S` seconds at most: its tokens would be lost otherwise."""
        if running := {task for task in (self._refreshing.task, self._saving.task) if task is not None}:
            await asyncio.wait(running, timeout=CLOSE_S)

    async def _renewed_in_time(self, login: Login) -> Login:
        """A newer login, or this one while it can still be tried."""
        if self._refusal is None and time.monotonic() >= self._resume_s:
            patience_s = None if login.is_expired(self._now()) else PATIENCE_S
            await joined(self._refreshing.start(login), patience_s)
            login = await self._current()
        if self._refusal is not None and login.is_expired(self._now()):
            raise self._logged_out(f"was refused when it was to be renewed ({self._refusal})")
        return login

    async def _other_than(self, refused: Login) -> Login:
        """Another login than the one that the upstream has refused."""
        login = refused
        while login.has_tokens_of(refused):
            if self._refusal is not None:
                raise self._logged_out(f"was refused when it was to be renewed ({self._refusal})")
            if time.monotonic() - self._issued_s < MIN_INTERVAL_S:
                raise self._logged_out("is refused though it has just been renewed")
            if (wait_s := self._resume_s - time.monotonic()) > 0:
                raise UpstreamError(
                    f"The Codex login could not be renewed: {self._failure}. The next try is due in {wait_s:.0f} s."
                )
            await joined(self._refreshing.start(login))
            login = await self._current()
        return login

    def _logged_out(self, problem: str, remedy: str = "run `codex login`") -> AuthenticationError:
        return AuthenticationError(f"The Codex login {self._file.path} {problem}: {remedy}.")

    # The file

    async def _current(self) -> Login:
        found = await self._look()
        if isinstance(found, Unusable):
            raise self._logged_out(found.problem, found.remedy)
        return found

    async def _look(self) -> Login | Unusable:
        """The login that holds now; the file is read if it has changed."""
        if self._login is not None and self._version is not None and self._file.version() == self._version:
            return self._login
        found, version = self._file.read()
        if isinstance(found, Unusable) and found.half_written:
            await asyncio.sleep(HALF_WRITTEN_S)
            found, version = self._file.read()
        if isinstance(found, Unusable):
            self._version = None
            return found
        return self._take(found, version)

    def _take(self, found: Login, version: Version | None) -> Login:
        """Hold what the file says, unless it is what we have spent ourselves and could not replace."""
        self._version, self._refusal = version, None
        if self._login is not None and self._superseded is not None and found.has_tokens_of(self._superseded):
            self._login = found.with_tokens_of(self._login)
            return self._login
        if self._login is None or not found.has_tokens_of(self._login):
            self._obtained_s = self._issued_s = self._resume_s = -math.inf
        self._login, self._superseded = found, None
        return found

    # The refresh

    async def _refresh(self, worn: Login) -> None:
        """Replace `worn`: the login that a request has found so, which need not be the one that is held by now."""
        outcome: Refused | Unavailable | None
        try:
            async with file_lock(self._file.refresh_lock, LOCK_S):
                outcome = await self._renew(worn)
        except LockTimeout as error:
            outcome = Unavailable(str(error))
        if isinstance(outcome, Refused):
            await self._settle(worn, outcome)
        elif isinstance(outcome, Unavailable):
            self._back_off(outcome)

    async def _renew(self, worn: Login) -> Refused | Unavailable | None:
        """Newer tokens, from the file if it has them by now; None if there is nothing more to do."""
        login = await self._look()
        if isinstance(login, Unusable) or self._has_followed(worn):
            return None  # whoever waits looks for himself
        outcome = await redeem(login, url=self._token_url, transport=self._transport)
        if not isinstance(outcome, Renewed):
            return outcome
        if self._login is not None and self._login.has_tokens_of(login):  # nobody has logged in meanwhile
            self._issue(self._login.renewed(outcome.reply, self._now()))
            logger.info("The Codex login %s was renewed.", self._file.path)
            await self._save(self._login)
        return None

    def _has_followed(self, worn: Login) -> bool:
        """Whether another login has come in the place of `worn`; it then counts as just obtained."""
        if self._login is None or self._login.has_tokens_of(worn):
            return False
        self._obtained_s = time.monotonic()
        return True

    def _issue(self, login: Login) -> None:
        self._superseded = self._superseded or self._login
        self._login = login
        self._obtained_s = self._issued_s = time.monotonic()
        self._backoff_s, self._resume_s = BACKOFF_S, -math.inf

    async def _settle(self, worn: Login, refused: Refused) -> None:
        """Give whoever redeemed the token before us the time to write what came of it; else remember the refusal.

        Not under the lock, which the CLI needs to write.
        """
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s:
            if isinstance(await self._look(), Unusable) or self._has_followed(worn):
                return
            await asyncio.sleep(SETTLE_POLL_S)
        self._refusal = refused.reason
        logger.error("The Codex login %s cannot be renewed (%s): run `codex login`.", self._file.path, refused.reason)

    def _back_off(self, unavailable: Unavailable) -> None:
        self._failure = unavailable.reason
        self._resume_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        logger.warning("The Codex login %s could not be renewed: %s.", self._file.path, self._failure)

    async def _save(self, login: Login) -> None:
        """Write `login` to the file, as long as that is the version we know. Called under the lock."""
        self._save_again_s = math.inf
        try:
            # The thread begins before anything can cancel us here, and a cancelled task does not end it.
            written = await asyncio.to_thread(self._file.replace, login, self._version)
        except OSError as error:
            self._save_again_s = time.monotonic() + SAVE_AGAIN_S
            logger.error(UNSAVED, self._file.path, error.strerror or error, SAVE_AGAIN_S)
            return
        if written:
            self._superseded = None
        else:  # it has changed: the next request sees how, and whether there still is something to write
            self._save_again_s = time.monotonic()

    async def _save_at_last(self) -> None:
        self._save_again_s = time.monotonic() + SAVE_AGAIN_S
        with suppress(LockTimeout):
            async with file_lock(self._file.refresh_lock, LOCK_S):
                login = await self._look()
                if isinstance(login, Login) and self._superseded is not None:
                    await self._save(login)
