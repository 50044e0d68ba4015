"""What an answer with functions may be: random walks through every form's grammar, read and validated."""

import json

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer as Words
from tokenizers import decoders, models, pre_tokenizers

from tests.models import templates
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.guide import Guides
from thermoscope.errors import InvalidRequest
from thermoscope.models.chat_template import ChatTemplate
from thermoscope.models.tokenizer import Tokenizer
from thermoscope.server.tools.grammar import answer_grammar
from thermoscope.server.tools.offer import functions_offer, tools_offer
from thermoscope.server.tools.parameters import arguments_schema
from thermoscope.server.tools.reader import CallReader, gather
from thermoscope.server.tools.schema import AllowedToolChoice, Function, NamedTool, Tool

CONTROL = ["<s>", "</s>", "[TOOL_CALLS]", "[ARGS]"]
PARAMETERS = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 6},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "units": {"type": "array", "items": {"enum": ["C", "F"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["city"],
    },
    "weather_by_id": {"properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    "clock": None,
}
TOOLS = [
    Tool.model_validate({"type": "function", "function": {"name": name, "parameters": schema}})
    for name, schema in PARAMETERS.items()
]
TEMPLATES = {
    "qwen 2.5": templates.QWEN25,
    "llama 3.1": templates.LLAMA31,
    "mistral nemo": templates.NEMO,
    "devstral": templates.DEVSTRAL,
    "smollm2": templates.SMOLLM2,
}


class Speaker:
    """Says random things, each token one that the grammar allows; tokens are bytes and control tokens."""

    def __init__(self, source):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Words(models.BPE({word: at for at, word in enumerate([*CONTROL, *alphabet])}, []))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
        core.add_special_tokens(CONTROL)
        template = ChatTemplate(source, bos="<s>", eos="</s>")
        self.tokenizer = Tokenizer(core, end_ids=[1], template=template)
        self.guides = Guides(self.tokenizer, self.tokenizer.vocab_size)
        self.form = self.tokenizer.call_format

    def grammar(self, offer, said=None):
        return answer_grammar(offer, self.tokenizer, said)

    def answers(self, grammar, count, beginning=""):
        """Finished answers that begin so. An answer that may end does every third time."""
        rng = np.random.default_rng(7)
        marks = self.tokenizer.call_marks
        found = []
        for _ in range(4 * count):
            guide, ids = self.guides.guide(grammar), []
            forced = self.tokenizer.encode(beginning, special=True)
            while len(ids) < 400 and not guide.complete:
                allowed = guide.allowed()
                if len(ids) < len(forced):
                    token = forced[len(ids)]
                    assert token in allowed
                else:
                    token = 1 if 1 in allowed and rng.random() < 1 / 3 else int(rng.choice(allowed))
                if token == 1:
                    break
                guide.accept(token)
                ids.append(token)
            else:
                if not guide.complete:
                    continue
            parts = [
                self.tokenizer.piece(each).encode()
                if each in marks.values()
                else self.tokenizer.bytes_of(each)
                for each in ids
            ]
            found.append(b"".join(parts).decode())
            if len(found) == count:
                break
        assert len(found) > count // 2
        return found

    def read(self, text):
        reader = CallReader(self.form)
        said, calls = gather(reader.push(text, last=True))
        return said, calls, reader.complete


@pytest.fixture(scope="module", params=TEMPLATES.values(), ids=TEMPLATES)
def speaker(request):
    return Speaker(request.param)


def check(calls):
    for call in calls:
        jsonschema.validate(json.loads(call.arguments), PARAMETERS[call.name] or {"type": "object"})


def test_every_call_is_valid_and_read_back(speaker):
    """However a call comes about, what is read of it is one of the functions with arguments of its schema."""
    grammar = speaker.grammar(tools_offer(TOOLS, "required"))
    names = set()
    for text in speaker.answers(grammar, 30):
        said, calls, complete = speaker.read(text)
        assert said == ""
        assert calls
        assert complete
        check(calls)
        names |= {call.name for call in calls}
    assert names == set(PARAMETERS)


def test_text_is_free_until_a_call_begins(speaker):
    grammar = speaker.grammar(tools_offer(TOOLS, "auto"))
    assert all(not speaker.read(text)[1] for text in speaker.answers(grammar, 10))
    beginning = "" if speaker.form.leads else "Hm [TOOL <tool_ca. "
    for text in speaker.answers(grammar, 20, beginning + speaker.form.opening):
        said, calls, complete = speaker.read(text)
        assert said == beginning.rstrip()
        assert calls
        assert complete
        check(calls)


def test_how_many_calls_there_may_be(speaker):
    several = [
        len(speaker.read(text)[1])
        for text in speaker.answers(speaker.grammar(tools_offer(TOOLS, "required")), 30)
    ]
    assert (max(several) > 1) == (speaker.form.again is not None)
    one = speaker.grammar(tools_offer(TOOLS, "required", parallel=False))
    assert {len(speaker.read(text)[1]) for text in speaker.answers(one, 20)} == {1}


def test_a_named_function_is_called_once(speaker):
    named = NamedTool.model_validate({"type": "function", "function": {"name": "weather_by_id"}})
    for offer in (
        tools_offer(TOOLS, named),
        functions_offer([tool.function for tool in TOOLS], named.function),
    ):
        for text in speaker.answers(speaker.grammar(offer), 10):
            assert [call.name for call in speaker.read(text)[1]] == ["weather_by_id"]


def test_some_are_allowed(speaker):
    allowed = AllowedToolChoice.model_validate(
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": name}} for name in ("weather", "clock")],
            },
        }
    )
    texts = speaker.answers(speaker.grammar(tools_offer(TOOLS, allowed)), 20)
    assert {call.name for text in texts for call in speaker.read(text)[1]} == {"weather", "clock"}


def test_an_answer_of_a_schema_or_a_call(speaker):
    said = Grammar.json_schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
                                "additionalProperties": False})  # fmt: skip
    offer = tools_offer(TOOLS, "auto")
    if speaker.form.leads:
        with pytest.raises(InvalidRequest, match="bare JSON"):
            speaker.grammar(offer, said)
        return
    grammar = speaker.grammar(offer, said)
    for text in speaker.answers(grammar, 10, "{"):
        content, calls, _ = speaker.read(text)
        assert not calls
        jsonschema.validate(json.loads(content), json.loads(said.source))
    for text in speaker.answers(grammar, 10, speaker.form.opening):
        check(speaker.read(text)[1])


def function(**parameters):
    return Function.model_validate({"name": "f", "parameters": parameters})


def test_parameters_that_are_missing_are_an_object_of_nothing():
    assert arguments_schema(Function(name="f"), "tools[0].function") == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("parameters", "param", "words"),
    [
        ({"type": "array"}, "functions[0].parameters.type", "expected 'object'"),
        ({"type": ["object", "null"]}, "functions[0].parameters.type", "expected 'object'"),
        ({"properties": {"a": {"not": {}}}}, "functions[0].parameters", "properties.a.not"),
        ({"properties": {"a": {"format": "regex"}}}, "functions[0].parameters", "properties.a.format"),
        ({"x-guidance": {"lenient": True}}, "functions[0].parameters", "x-guidance"),
    ],
    ids=str,
)
def test_what_no_grammar_is_made_of(parameters, param, words):
    speaker = Speaker(templates.QWEN25)
    with pytest.raises(InvalidRequest) as caught:
        speaker.grammar(functions_offer([function(**parameters)], None))
    assert caught.value.param == param
    assert words in str(caught.value)


def test_many_functions_are_one_small_grammar():
    speaker = Speaker(templates.QWEN25)
    many = [
        Tool.model_validate(
            {
                "type": "function",
                "function": {"name": f"function_{at}", "parameters": PARAMETERS["weather"]},
            }
        )
        for at in range(128)
    ]
    (text,) = speaker.answers(speaker.grammar(tools_offer(many, "required", parallel=False)), 1)
    assert speaker.read(text)[1][0].name.startswith("function_")
