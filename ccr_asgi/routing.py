"""Which provider and model serve a request: pure functions over the configuration.

The tag rule comes from watching Claude Code: an agent's own prompt is the last `system` text, with the tag at its
start or, below an intro of the author's, on a line of its own. The same characters also stand where they must not
route: in messages, in tool descriptions, in files that were read, in the tail of a system text after a git log.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from ccr_asgi.config import Provider, RuleEntry
from ccr_asgi.errors import RequestError
from ccr_asgi.quirks import for_model
from ccr_asgi.wire.json_codec import loads

Reason = Literal["default", "tag", "model-pair", "rule", "model-name", "fallback", "budget"]
OnUnknown = Literal["refuse", "passthrough"]

LISTED_PREFIX = "claude/"
"""What stands before `provider,model` in our list of models: Claude Code offers only names that hold this word."""
TAG_NAME = "CCR-SUBAGENT-MODEL"
TAG_LINES = 10
"""A tag on a line of its own counts within this many lines of its text."""

_OPEN = f"<{TAG_NAME}>"
_TAG = re.compile(rf"<{TAG_NAME}>(.*?)</{TAG_NAME}>")
_FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})(.*)")  # CommonMark 0.31, section 4.5
_MODEL_SUFFIX = re.compile(r"\[\w+\]$")


@dataclass(frozen=True, slots=True)
class Route:
    """One way to serve a request.

    Attributes:
        provider: Who is asked.
        model: The model name that goes upstream; None leaves the client's own (passthrough).
        reason: Why: nothing asked for another ("default"), a tag in the system prompt ("tag"), a model of the form
            "provider,model" ("model-pair"), a rule of the configuration ("rule"), a model name listed under exactly
            one provider ("model-name"), the failure of another ("fallback"), or a budget that is used up ("budget").
    """

    provider: Provider
    model: str | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that routes: where it stands in its text, and what it says (None: it is not closed on its line)."""

    start: int
    end: int
    content: str | None


def find_tag(system: object) -> Tag | None:
    """The first tag that routes in a request's `system` field (a string, a list of blocks, or anything at all)."""
    return next((tag for text in system_texts(system) for tag in _tags(text)), None)


def strip_tag(text: str) -> str:
    """`text`, one system text, without the tags that route; a line that held nothing else goes with its tag."""
    for tag in reversed(list(_tags(text))):
        before, after = text[: tag.start], text[tag.end :]
        alone = not before.rpartition("\n")[2].strip() and (not after or after[0] in "\r\n")
        text = before + (re.sub(r"\A\r?\n", "", after) if alone else after)
    return text


def system_texts(system: object) -> Iterator[str]:
    """The texts of a `system` field, in order; whatever is not text is passed over."""
    if isinstance(system, str):
        yield system
    elif isinstance(system, list):
        for block in system:
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
                yield block["text"]


def _tags(text: str) -> Iterator[Tag]:
    if _OPEN not in text:
        return
    first = len(text) - len(text.lstrip())
    for start in _places(text, first):
        if not text.startswith(_OPEN, start):
            continue
        line_end = text.find("\n", start) if "\n" in text[start:] else len(text)
        match = _TAG.match(text, start, line_end)
        if match is None:
            # Below the start it must be alone on its line: with other words beside it, it is prose about the tag.
            if start == first or " " not in text[start:line_end].strip():
                yield Tag(start, line_end, None)
        elif start == first or not text[match.end() : line_end].strip():
            yield Tag(start, match.end(), match[1])


def _places(text: str, first: int) -> Iterator[int]:
    """Where a tag may begin: the first thing said, then the first thing of each early line outside a code fence."""
    yield first
    position = 0
    fence = ""
    for line in text.split("\n", TAG_LINES)[:TAG_LINES]:
        start = position + len(line) - len(line.lstrip())
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        elif found:
            fence = found[1]
        elif start > first:
            yield start
        position += len(line) + 1


def without_suffix(model: str) -> str:
    """A model name without Claude Code's context suffix (`claude-sonnet-4-5[1m]`), which no provider knows."""
    return _MODEL_SUFFIX.sub("", model)


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules ask of a request beside its model.

    Attributes:
        agent_id: Claude Code's id of the agent; None for a main session.
        body: The request's body as JSON; it is read only if a rule asks for what stands in it.
    """

    agent_id: str | None = None
    body: bytes = b"{}"

    def fit(self, rule: RuleEntry, model: str) -> bool:
        """Whether a request for `model` fits all that `rule` says."""
        if rule.agent_id is not None and not (self.agent_id and fnmatchcase(self.agent_id, rule.agent_id)):
            return False
        if rule.model is not None and not fnmatchcase(without_suffix(model), rule.model):
            return False
        kb = len(self.body) / 1024
        if not (rule.min_body_kb or 0) <= kb <= (math.inf if rule.max_body_kb is None else rule.max_body_kb):
            return False
        return (rule.thinking is None and rule.tool is None) or self._content_fits(rule)

    def _content_fits(self, rule: RuleEntry) -> bool:
        try:
            body = loads(self.body)
        except ValueError:
            return False
        if not isinstance(body, dict):
            return False
        thinking = body.get("thinking")
        thinks = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
        if rule.thinking is not None and rule.thinking is not thinks:
            return False
        tools = body.get("tools")
        names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
        return rule.tool is None or any(isinstance(name, str) and fnmatchcase(name, rule.tool) for name in names)


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All that a decision needs.

    Attributes:
        providers: By name, in the order of the configuration.
        rules: Where requests go that name no provider themselves; the first that fits counts.
        default: Name of the provider that serves whatever asks for no other.
        on_unknown: "refuse" answers 400 to a route that leads nowhere; "passthrough" sends it to the default.
    """

    providers: Mapping[str, Provider]
    default: str = "anthropic"
    on_unknown: OnUnknown = "refuse"
    rules: tuple[RuleEntry, ...] = ()

    def resolve(self, model: str | None, tag: Tag | None = None, facts: Facts | None = None) -> Route:
        """The way to serve a request: a tag wins over `provider,model`, that over a rule, that over a model's name.

        Raises:
            RequestError: The tag or the model names no usable provider; the message names the valid choices.
        """
        default = Route(self.providers[self.default], None, "default")
        try:
            route = self._by_tag(tag) if tag is not None else self._by_model(model or "", facts)
            if route is not None:
                self._require_credentials(route.provider)
        except RequestError:
            if self.on_unknown == "refuse":
                raise
            route = None
        if route is None or (route.reason == "model-name" and route.provider is default.provider):
            self._require_credentials(default.provider)
            return default
        return route

    def explain(self, model: str | None, tag: Tag | None = None, facts: Facts | None = None) -> tuple[Route, str]:
        """What `resolve` decides, and what in the request or the configuration made it so, in a sentence.

        Raises:
            RequestError: As `resolve` does.
        """
        route = self.resolve(model, tag, facts)
        match route.reason:
            case "tag":
                return route, f"The tag in the system prompt says {(tag.content if tag else None) or '':.200}."
            case "model-pair":
                return route, f"The model {model!r:.200} names its provider."
            case "rule":
                fitting = (index for index, rule in enumerate(self.rules) if facts and facts.fit(rule, model or ""))
                return route, f"rules[{next(fitting)}] of the configuration is the first that the request fits."
            case "model-name":
                return route, f"providers.{route.provider.name}.models lists {route.model!r:.200}, and no other does."
            case _:
                return route, self._why_default(model, tag, facts)

    def _why_default(self, model: str | None, tag: Tag | None, facts: Facts | None) -> str:
        try:
            replace(self, on_unknown="refuse").resolve(model, tag, facts)
        except RequestError as error:
            return f"onUnknown is 'passthrough', in place of this refusal: {error.message}"
        return f"No tag, rule or listed model asks for another provider than {self.default}."

    def fallbacks(self, route: Route) -> list[Route]:
        """What to try, in this order, when `route` fails; a link that has no credentials is left out."""
        if not route.provider.fallback:
            return []
        named = for_model(route.provider.fallback, route.model or "", ())
        links = [self.link(link, route.model, "fallback") for link in named]
        return [link for link in links if link.provider.has_credential]

    def _by_tag(self, tag: Tag) -> Route:
        content = (tag.content or "").strip()
        if not content:
            raise RequestError(
                f"The <{TAG_NAME}> tag in the agent's system prompt is "
                f"{'empty' if tag.content is not None else 'not closed on its line'}. Write it on one line as "
                f"{_OPEN}provider,model</{TAG_NAME}>. {self._choices()}"
            )
        provider, comma, model = content.partition(",")
        if not comma:
            provider, slash, model = content.partition("/")
            if not slash or provider.strip() not in self.providers:
                if route := self._by_name(content, "tag"):
                    return route
                if not slash:
                    raise RequestError(
                        f"The tag in the agent's system prompt says {content!r:.200}, which is neither "
                        f"'provider,model' nor a model listed under a provider. {self._choices()}"
                    )
        return self._pair(provider, model, content, "tag")

    def _by_model(self, model: str, facts: Facts | None) -> Route | None:
        provider, comma, name = model.removeprefix(LISTED_PREFIX).partition(",")
        if comma:
            return self._pair(provider, name, model, "model-pair")
        rule = self.rule_for(model, facts) if facts is not None else None
        return self._by_name(model, "model-name") if rule is None else self.link(rule.route, model, "rule")

    def rule_for(self, model: str, facts: Facts) -> RuleEntry | None:
        """The first rule that a request fits."""
        return next((rule for rule in self.rules if facts.fit(rule, model)), None)

    def link(self, link: str, asked_model: str | None, reason: Reason) -> Route:
        """The route that "provider,model" or "provider" of the configuration means."""
        name, _, model = (part.strip() for part in link.partition(","))
        provider = self.providers[name]
        # Without a model: the one that was asked for, which passthrough needs nobody to repeat.
        return Route(provider, model or (None if provider.passthrough else asked_model), reason)

    def _pair(self, provider_name: str, model: str, found: str, reason: Reason) -> Route:
        provider_name, model = provider_name.strip(), without_suffix(model.strip())
        if not provider_name or not model:
            raise RequestError(f"{found!r:.200} is not of the form 'provider,model'. {self._choices()}")
        provider = self.providers.get(provider_name)
        if provider is None:
            raise RequestError(f"Unknown provider {provider_name!r:.100} in {found!r:.200}. {self._choices()}")
        return Route(provider, model, reason)

    def _by_name(self, model: str, reason: Reason) -> Route | None:
        name = without_suffix(model)
        listing = [p for p in self.providers.values() if name in p.models or model in p.models]
        if len(listing) > 1:
            names = ", ".join(f"'{provider.name},{name}'" for provider in listing)
            raise RequestError(f"Model {name!r} is listed by several providers: say which one, with one of {names}.")
        return Route(listing[0], name, reason) if listing else None

    def _require_credentials(self, provider: Provider) -> None:
        if provider.has_credential:
            return
        expected = f" ({provider.key_hint} gives none)" if provider.key_hint else ""
        raise RequestError(
            f"Provider {provider.name!r} has no key configured{expected}. Set providers.{provider.name}.apiKey in the "
            f"configuration (any text for a server that needs none), or use another provider. {self._choices()}"
        )

    def _choices(self) -> str:
        named = []
        for provider in self.providers.values():
            models = ", ".join(provider.models[:8]) + (", …" if len(provider.models) > 8 else "")
            named.append(f"{provider.name} ({models})" if models else provider.name)
        return "Configured providers: " + "; ".join(named) + "."
