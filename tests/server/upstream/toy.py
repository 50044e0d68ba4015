"""A scripted upstream."""

import json

import httpx

from thermoscope.upstream.abilities import Abilities

ABILITIES = Abilities(
    model="far", server="toy", context=64, vocabulary=10, chat=True, completions=True, top_logprobs=20,
    completion_logprobs=20, logprobs="raw", streamed_logprobs=True, n=True, seed=True, tools=("named",),
)  # fmt: skip


class Toy:
    """An upstream that answers what it is told to, and remembers what it was asked."""

    def __init__(self):
        self.asked = None
        self.answer = httpx.Response(200, json={"model": "far-away", "choices": []})

    async def __call__(self, request):
        self.asked = json.loads(request.content)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def says(self, *choices, **more):
        self.answer = httpx.Response(200, json={"model": "far-away", "choices": list(choices)} | more)

    def streams(self, *events):
        data = [each if isinstance(each, str) else json.dumps(each) for each in events]
        wire = ": awake\n\n" + "".join(f"data: {each}\n\n" for each in data)
        self.answer = httpx.Response(200, content=wire.encode())
