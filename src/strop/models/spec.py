"""Which model: a string or a mapping in a configuration becomes a `ModelSpec`, checked before anything is spent.

``builtin:NAME``, ``hf:ORG/NAME``, a local folder, ``openai:NAME``, ``http://HOST:PORT/v1#NAME``, ``vllm:NAME``,
``scripted:FILE``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from strop.errors import UserError, nearest
from strop.models.builtin import ENCODERS
from strop.models.endpoints.prices import parse_price, price_of
from strop.models.render import Chat
from strop.models.weights import check_folder, file_hash, folder_revision
from strop.runs.budget import FREE, Price

Kind = Literal["builtin", "hf", "local", "endpoint", "vllm", "scripted"]
PREFIXES: tuple[Kind, ...] = ("builtin", "hf", "vllm", "scripted")
BUILTINS = ("smollm2-135m", "stories-strong", "stories-weak")
DTYPES = ("auto", "float32", "bfloat16", "float16")
CHATS = ("auto", "on", "off")
OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
WHOLE = ("batch_size", "max_concurrency", "retries", "max_reply_bytes")
"""Options that are whole numbers."""
FORMS = (
    *(f"builtin:{name}" for name in BUILTINS),
    "hf:ORG/NAME",
    "PATH/TO/FOLDER",
    "openai:NAME",
    "http://HOST:PORT/v1#NAME",
    "vllm:NAME",
    "scripted:FILE",
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and how to run it.

    Attributes:
        model: The string that names it, as it was written.
        kind: Which backend runs it.
        target: The name, the folder or the file behind the prefix; of an endpoint, the model's name there.
        base_url: Of an endpoint, where it is.
        revision: Of a hub model, the branch, tag or commit; of an endpoint, a name for what the server holds, which
            takes the place of the URL in call keys, so that moving the server keeps what was paid for.
        dtype: Of the weights in memory; ``auto`` is float32 on a CPU and bfloat16 on an accelerator.
        device: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...
        chat: ``auto`` leaves plain prompts plain and gives messages to the chat template; ``on`` makes every plain
            prompt a user message; ``off`` refuses messages.
        batch_size: Most completions that a local model makes at a time; long prompts make batches smaller.
        replicas: More base URLs that serve the same model.
        max_concurrency: Most requests in flight at each URL of an endpoint.
        timeout: Seconds for one request to an endpoint.
        retries: How often a failed request is repeated where that may help; more often where the server says "later".
        retry_for: Seconds after its first request from which a call is not asked again.
        max_reply_bytes: The longest reply that is read.
        price: What an endpoint's tokens cost; None where the price file is to say.
        api_key_env: The environment variable with the endpoint's key; empty for none.
        vllm_command: The command in front of the name that starts a vLLM server.
        startup_timeout: Seconds until a started server must answer.
    """

    model: str
    kind: Kind
    target: str
    base_url: str = ""
    revision: str = "main"
    dtype: str = "auto"
    device: str = "auto"
    chat: Chat = "auto"
    batch_size: int = 256
    replicas: tuple[str, ...] = ()
    max_concurrency: int = 64
    timeout: float = 120.0
    retries: int = 4
    retry_for: float = 600.0
    max_reply_bytes: int = 64 * 2**20
    price: Price | None = None
    api_key_env: str = ""
    vllm_command: tuple[str, ...] = ("vllm", "serve")
    startup_timeout: float = 900.0

    @property
    def parallel(self) -> int:
        """How many calls it answers side by side at most."""
        return self.max_concurrency if self.kind in ("endpoint", "vllm") else self.batch_size

    @property
    def known_price(self) -> Price | None:
        """What its tokens cost: nothing on this machine, else as `price` or the price file says; None where neither."""
        return FREE if self.kind != "endpoint" else self.price or price_of(self.base_url, self.target)

    def to_config(self) -> str | dict[str, Any]:
        """Return what `parse_model` reads: the string alone, or a mapping with what differs from the defaults."""
        plain = parse_base(self.model)
        changed = {key: getattr(self, key) for key in OPTIONS if getattr(self, key) != getattr(plain, key)}
        changed = {key: _plain(value) for key, value in changed.items()}
        return {"model": self.model, **changed} if changed else self.model

    def check(self) -> None:
        """Make sure that the model can be opened, as far as that is free: files there and whole, keys set.

        Raises:
            UserError: What is missing, and where it comes from.
        """
        if self.kind == "local":
            check_folder(Path(self.target))
        elif self.kind == "scripted" and not Path(self.target).is_file():
            raise UserError("no such script of replies", value=self.target)
        elif self.kind == "builtin":
            from strop.models.builtin import builtin_source

            builtin_source(self.target)
        elif self.api_key_env and not os.environ.get(self.api_key_env):
            raise UserError(
                f"the key of {self.model} is not set",
                why=f"it is read from the environment variable {self.api_key_env}, never from a file",
                fix=f"export {self.api_key_env}=...",
            )

    def fingerprint(self) -> str:
        """Return what identifies the exact model for a stage: content hashes of local files, else names.

        Where it runs and how many requests it takes at once are not part of it.

        Raises:
            UserError: As `check`.
        """
        self.check()
        return hashlib.sha256("\0".join((self._identity(), self.dtype, self.chat)).encode()).hexdigest()

    def _identity(self) -> str:
        match self.kind:
            case "local":
                return folder_revision(Path(self.target))
            case "scripted":
                return file_hash(Path(self.target))
            case "builtin":
                from strop.models.builtin import builtin_identity

                return builtin_identity(self.target)
            case "hf":
                return f"hf:{self.target}@{self.revision}"
            case "vllm":
                return f"vllm:{self.target}"
            case "endpoint":
                return self.served_as(self.base_url)

    def served_as(self, base_url: str) -> str:
        """Return what identifies an endpoint's model: its name with the stated revision, else with the base URL."""
        return f"{base_url}#{self.target}" if self.revision == "main" else f"{self.target}@{self.revision}"


OPTIONS = tuple(field.name for field in fields(ModelSpec) if field.default is not MISSING and field.name != "base_url")


def parse_model(value: str | Mapping[str, Any]) -> ModelSpec:
    """Read a model from a configuration.

    Args:
        value: A string of one of the forms of this module, or a mapping with ``model`` and options of `ModelSpec`.

    Raises:
        UserError: No such form, builtin or option (the nearest is named), or an option outside its range.
    """
    if isinstance(value, ModelSpec):
        return value
    if isinstance(value, str):
        return _parse_name(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("model"), str):
        raise UserError("a model is a string, or a mapping with the key 'model'", value=value, alternatives=FORMS)
    plain = _parse_name(value["model"])
    options = {key: given for key, given in value.items() if key != "model"}
    return ModelSpec(plain.model, plain.kind, plain.target, plain.base_url, **_defaults(plain) | _checked(options))


def parse_base(value: str | Mapping[str, Any]) -> ModelSpec:
    """Read a model that a training starts from: as `parse_model`, and an encoder where the training makes no writer.

    Raises:
        UserError: As `parse_model`.
    """
    scheme, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    return (
        ModelSpec(f"builtin:{rest}", "builtin", rest)
        if scheme == "builtin" and rest in ENCODERS
        else parse_model(value)
    )


def _defaults(spec: ModelSpec) -> dict[str, Any]:
    return {key: getattr(spec, key) for key in OPTIONS}


def _parse_name(text: str) -> ModelSpec:
    scheme, _, rest = text.partition(":")
    if scheme in ("http", "https"):
        return _parse_url(text)
    if scheme == "openai" and rest:
        return ModelSpec(text, "endpoint", rest, base_url=OPENAI_URL, chat="on", api_key_env=OPENAI_KEY)
    if scheme == "builtin" and rest in ENCODERS:
        raise UserError(
            "this builtin embeds texts; it cannot write any",
            value=text,
            fix=f"name it where an encoder is wanted: strop judge fit --encoder {text}",
            alternatives=[f"builtin:{name}" for name in BUILTINS],
        )
    if scheme == "builtin" and rest not in BUILTINS:
        close = nearest(rest, BUILTINS)
        raise UserError(
            "no such builtin model",
            value=text,
            fix=f"did you mean builtin:{close}?" if close else None,
            alternatives=[f"builtin:{name}" for name in BUILTINS],
        )
    for kind in PREFIXES:
        if scheme == kind and rest:
            return ModelSpec(text, kind, rest)
    if not text.strip() or (rest.strip() == "" and text.endswith(":")):
        raise UserError("a model without a name", value=text, alternatives=FORMS)
    # A one-letter scheme is a drive.
    if rest and len(scheme) > 1 and re.fullmatch(r"[a-z_]+", scheme) and not Path(text).exists():
        close = nearest(scheme, (*PREFIXES, "openai", "http"))
        hint = f"did you mean {close}:{rest}?" if close else None
        raise UserError("no such kind of model", value=text, fix=hint, alternatives=FORMS)
    return ModelSpec(text, "local", text)


def _parse_url(text: str) -> ModelSpec:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise UserError(
            "a key inside a URL", value=parts.hostname, fix="name its environment variable: api_key_env: MY_KEY"
        )
    if not parts.hostname or not parts.fragment:
        raise UserError(
            "an endpoint needs a host, and the model's name behind #", value=text, fix="http://HOST:PORT/v1#NAME"
        )
    return ModelSpec(text, "endpoint", parts.fragment, base_url=text.partition("#")[0].rstrip("/"))


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for key, given in options.items():
        if key not in OPTIONS:
            close = nearest(key, OPTIONS)
            hint = f"did you mean {close!r}?" if close else None
            raise UserError("a model has no such option", value=key, fix=hint, alternatives=OPTIONS)
        checked[key] = _option(key, given)
    return checked


def _option(key: str, given: Any) -> Any:
    choices = {"dtype": DTYPES, "chat": CHATS}.get(key)
    if key == "chat" and isinstance(given, bool):
        given = "on" if given else "off"  # YAML 1.1 reads a bare on or off as a boolean
    if choices is not None:
        if given not in choices:
            raise UserError(f"model option {key!r} has no such value", value=given, alternatives=choices)
        return given
    if key in WHOLE or key in ("timeout", "startup_timeout", "retry_for"):
        return _number(key, given)
    if key == "price":
        return parse_price(given)
    if key == "replicas":
        return _urls(given)
    if key == "vllm_command":
        words = given.split() if isinstance(given, str) else given
        if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(
                "model option 'vllm_command' must be a command", value=given, fix="vllm_command: vllm serve"
            )
        return tuple(words)
    if not isinstance(given, str):
        raise UserError(f"model option {key!r} must be text", value=given)
    return given


def _urls(given: Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(url, str) for url in given):
        raise UserError(
            "model option 'replicas' must be a list of URLs", value=given, fix="replicas: [http://HOST:PORT/v1]"
        )
    return tuple(_parse_url(f"{url.partition('#')[0]}#any").base_url for url in given)


def _plain(value: Any) -> Any:
    if value == FREE:
        return "free"
    if isinstance(value, Price):
        return {"prompt": value.prompt, "completion": value.completion, "cached": value.cached}
    return list(value) if isinstance(value, tuple) else value


def _number(key: str, given: Any) -> int | float:
    whole = key in WHOLE
    least = 0 if key == "retries" else 1 if whole else 0.001
    if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)) or given < least:
        kind = "a whole number" if whole else "a number"
        raise UserError(f"model option {key!r} must be {kind} of at least {least}", value=given)
    return int(given) if whole else float(given)


def _validate(value: Any) -> ModelSpec:
    return parse_model(value)


def _validate_base(value: Any) -> ModelSpec:
    return parse_base(value)


def _serialize(spec: ModelSpec) -> str | dict[str, Any]:
    return spec.to_config()


ModelField = Annotated[
    ModelSpec,
    PlainValidator(_validate),
    PlainSerializer(_serialize),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["model"]}]}),
]
"""A pydantic field: a string or a mapping in a configuration, a `ModelSpec` in the program."""

BaseField = Annotated[
    ModelSpec,
    PlainValidator(_validate_base),
    PlainSerializer(_serialize),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["model"]}]}),
]
"""As `ModelField`, for what a reward model starts from: an encoder too."""
