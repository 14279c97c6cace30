"""Who takes part in the demo. The names of the models are real, so that they have real prices; nothing else is."""

from collections.abc import Mapping
from dataclasses import dataclass

from ccr_asgi.config_file import Kind


@dataclass(frozen=True, slots=True)
class Model:
    """A model's manner, in medians.

    Attributes:
        provider: Who serves it.
        name: Its name there.
        ttft_ms: Milliseconds to the first content.
        tokens_per_s: Output tokens a second, from then on.
        thinks: How many of its answers begin with thinking, as a share of 1.
        fallback: Who answers when its provider refuses.
    """

    provider: str
    name: str
    ttft_ms: float
    tokens_per_s: float
    thinks: float
    fallback: "Model | None" = None


OPUS = Model("anthropic", "claude-opus-5-5", 1500, 90, 0.5)
HAIKU = Model("anthropic", "claude-haiku-5-5", 600, 180, 0.0)
GPT_OSS = Model("cerebras", "gpt-oss-120b", 250, 1800, 0.6)
SOL = Model("codex", "gpt-6-sol", 1800, 160, 0.8)
GLM = Model("cerebras", "zai-glm-4.7", 350, 900, 0.3, fallback=SOL)

MODELS = (OPUS, HAIKU, GLM, GPT_OSS, SOL)

SONNET = "claude-sonnet-5-5"
"""What most agents' files name, and nobody here answers as: their tags lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A subagent.

    Attributes:
        name: As its file is called.
        model: Who answers it.
        asks: The Claude model that its file names, and its requests with it; another than `model` needs a tag.
        turns: How many turns one run of it takes, at least and at most.
        reads_tokens: What a turn adds to its conversation, in the median.
        writes_tokens: What an answer has, in the median.
        starts: The agent that it may start itself.
    """

    name: str
    model: Model
    asks: str
    turns: tuple[int, int]
    reads_tokens: int
    writes_tokens: int
    starts: "Agent | None" = None

    @property
    def tagged(self) -> bool:
        """Whether its prompt has the tag that leads to its model."""
        return self.asks != self.model.name

    @property
    def prompt(self) -> str:
        """Its system prompt."""
        tag = f"<CCR-SUBAGENT-MODEL>{self.model.provider},{self.model.name}</CCR-SUBAGENT-MODEL>\n"
        return f"{tag if self.tagged else ''}You are {self.name}, an agent of the demo."


CODE_READER = Agent("code-reader", SOL, SONNET, (3, 6), 5200, 420)
FAST_DEV = Agent("fast-dev", GLM, OPUS.name, (3, 7), 1400, 1500)
WATCHER = Agent("watcher", GPT_OSS, SONNET, (4, 8), 700, 140)
CODE_REVIEWER = Agent("code-reviewer", SOL, SONNET, (2, 4), 4800, 900, starts=CODE_READER)
EXPLORE = Agent("explore", HAIKU, HAIKU.name, (2, 4), 3000, 260)

AGENTS = (FAST_DEV, CODE_READER, WATCHER, CODE_REVIEWER, EXPLORE)

PROJECTS = ("demo-shop", "demo-api", "demo-docs", "demo-mobile")

FAULTS: Mapping[str, tuple[int, ...]] = {"anthropic": (529, 529, 429), "cerebras": (429, 429, 500), "codex": (503, 429)}
"""The statuses that a provider fails with, each as often as it stands here."""

KINDS: Mapping[str, Kind] = {"anthropic": "anthropic", "cerebras": "openai-chat", "codex": "openai-responses"}
"""The providers, and the wire format that each speaks."""

PATHS: Mapping[str, str] = {
    "anthropic": "/anthropic",
    "cerebras": "/cerebras/v1/chat/completions",
    "codex": "/codex/backend-api/codex/responses",
}
"""Where each one's `baseUrl` is on the simulated providers' port."""


def models_of(provider: str) -> tuple[str, ...]:
    """The models that a provider serves."""
    return tuple(model.name for model in MODELS if model.provider == provider)


def fallbacks_of(provider: str) -> dict[str, list[str]]:
    """Who is asked instead, by the provider's models, as a configuration says it."""
    links = ((model.name, model.fallback) for model in MODELS if model.provider == provider)
    return {name: [f"{other.provider},{other.name}"] for name, other in links if other is not None}
