"""The tokenizer of a model's folder: tokenizer.json, and what the files beside it say of special tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from thermoscope.catalogue.files import read_json, reading
from thermoscope.errors import BadModelFile
from thermoscope.models.chat_template import ChatTemplate
from thermoscope.models.tokenizer import CORE_FILE, Tokenizer, check_ids


def folder_tokenizer(folder: Path, config: Mapping[str, Any], *, rows: int) -> Tokenizer:
    """Read a folder's tokenizer for an embedding of so many rows; `config` is its config.json.

    Ids that end an answer come from generation_config.json, config.json and tokenizer_config.json together.

    **Errors:** `BadModelFile`; `UnsupportedModel` for a tokenizer that does not spell bytes in a known way.
    """
    if not (folder / CORE_FILE).exists():
        raise BadModelFile(
            f"{folder}: got no {CORE_FILE}, expected one; load the model's tokenizer with transformers once "
            "and save it there."
        )
    settings = read_json(folder / "tokenizer_config.json", optional=True)
    generation = read_json(folder / "generation_config.json", optional=True)
    with reading(f"{folder.name}/{CORE_FILE}"):
        core = tokenizers.Tokenizer.from_file(str(folder / CORE_FILE))
        core.no_truncation()  # the file may carry settings of its maker's training run
        core.no_padding()
    with reading(f"{folder.name}/tokenizer_config.json"):
        names = {key: _text(settings.get(f"{key}_token")) for key in ("bos", "eos")}
        ids = {key: core.token_to_id(name) if name else None for key, name in names.items()}
        ends = {f"generation_config: eos_token_id {i}": i for i in _ids(generation.get("eos_token_id"))}
        ends |= {f"config: eos_token_id {i}": i for i in _ids(config.get("eos_token_id"))}
        check_ids(core, {**ids, **ends}, rows, folder.name)
        for key, name in names.items():
            if name and ids[key] is None:
                raise BadModelFile(
                    f"{folder.name}: got no token for {key}_token {name!r}, expected it in {CORE_FILE}; "
                    "fetch the tokenizer again."
                )
        source = _template(folder, settings)
        return Tokenizer(
            core,
            end_ids=[*ends.values(), *([] if ids["eos"] is None else [ids["eos"]])],
            bos=_bos(core, ids["bos"], settings.get("add_bos_token")),
            template=ChatTemplate(source, bos=names["bos"], eos=names["eos"]) if source else None,
        )


def _text(token: object) -> str:
    """A special token is written as its text, or as an object that holds it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _ids(found: Any) -> list[int]:
    return [] if found is None else [int(i) for i in (found if isinstance(found, list) else [found])]


def _bos(core: tokenizers.Tokenizer, bos: int | None, wanted: object) -> int | None:
    """BOS, if the settings want it, or if they are silent and the tokenizer's own post-processor adds it."""
    if isinstance(wanted, bool):
        return bos if wanted else None
    added = core.encode("", add_special_tokens=True).ids
    return added[0] if added and added[0] == bos else None


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    beside = folder / "chat_template.jinja"
    if beside.exists():
        return beside.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several named templates
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return found if isinstance(found, str) else None
