from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from thermoscope.errors import InvalidRequest
from thermoscope.models.chat_template import ChatTemplate

MESSAGES = [
    {"role": "system", "content": "Be <b>brief</b> & clear."},
    {"role": "user", "content": "Hi\n  there\t'quoted' \"too\" é 🤗"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
TEMPLATES = {
    "chatml": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>'}}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "blocks on their own lines": "{{ bos_token }}\n{%- for m in messages %}\n    {% if m.role == 'user' %}\n"
    "  U: {{ m.content | trim }}\n    {% else %}\n  A: {{ m.content }}{{ eos_token }}\n"
    "    {% endif %}\n{% endfor %}\n",
    "json": "{% for m in messages %}{{ m | tojson }}{{ m | tojson(indent=2) }}{% endfor %}",
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m.content }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% set ns.n = ns.n + m.content | length %}{% endfor %}{{ ns.n }}"
    "{{ undefined_name }}{{ strftime_now('%Y') }}",
    "extra": "{% for tool in tools %}{{ tool.name | upper }}{% endfor %}{{ enable_thinking }}",
}
EXTRA: dict[str, Any] = {"tools": [{"name": "clock"}], "enable_thinking": False}


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("prompt", [True, False])
def test_renders_as_transformers_does(source: str, prompt: bool) -> None:
    reference = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), chat_template=source, bos_token="<s>", eos_token="</s>"
    )
    expected = reference.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=prompt, **EXTRA)
    found = ChatTemplate(source, bos="<s>", eos="</s>").render(
        MESSAGES, add_generation_prompt=prompt, **EXTRA
    )
    assert found == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for m in %}", "messages"),  # a syntax error
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ messages[9].content.strip() }}", "undefined|no element"),
        ("{{ messages.append({}) }}", "unsafe|not safely|immutable"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for i in range(10**9) %}{% endfor %}", "[Rr]ange"),
    ],
)
def test_a_failing_template_is_an_invalid_request(source: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        ChatTemplate(source, bos="", eos="").render(MESSAGES)
    assert caught.value.param == "messages"
    assert "\n" not in str(caught.value)


def test_cannot_reach_python() -> None:
    source = "{{ cycler.__init__.__globals__.os.getcwd() }}"
    with pytest.raises(InvalidRequest):
        ChatTemplate(source, bos="", eos="").render(MESSAGES)
