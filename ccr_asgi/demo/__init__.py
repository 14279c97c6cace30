"""`ccr-asgi demo`: the whole of it at work, with nothing real behind it, and nothing of the user's touched.

The server is the real one (`create_app`), on a real socket, with a database of its own that goes when it ends. What is
made up is on either side of it: the providers, which answer in the three wire formats from a second port of this
machine, and the agents, whose requests come by HTTP like anybody's. All URLs of its configuration are on the loopback
interface, and no environment variable changes that.

    cast.py           who takes part: models, agents, projects
    story.py          what happens: sessions of turns, the same for a seed; and what each turn's answer will be
    history.py        turns of past days, as the rows that the server would have made of them
    traffic.py        turns of now, sent to the server
    providers.py      the answers, as an ASGI application; requests.py says which, words.py what is in them,
                      messages_api.py chat_api.py responses_api.py limits.py how it is written
    simulation.py     all of it together: `running`

A turn's answer is settled when the turn is made and travels in its prompt, so a provider needs no memory, and a turn
makes the same row whether it is played or written down. A visitor's requests are answered too, Claude Code's for one:
with a sentence that says where they have come, or with the start of an agent where that is what they ask for.
"""

from ccr_asgi.demo.history import history
from ccr_asgi.demo.simulation import Demo, PortTaken, running

__all__ = ["Demo", "PortTaken", "history", "running"]
