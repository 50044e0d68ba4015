"""A plugin for llama.cpp's server tests: our addresses, and the model's name, which it does not ask for."""

import re

from utils import ServerProcess  # llama.cpp's own, which lies beside its tests

ADDRESS = re.compile(r"^/(chat/completions|completions|embeddings|models|responses)\b")


def _with_ours(request):
    def asked(self, method, path, data=None, *others, **more):
        if isinstance(data, dict):
            data = data | {"model": data.get("model") or "gpt-4o"}
        return request(self, method, ADDRESS.sub(r"/v1/\1", path), data, *others, **more)

    return asked


for name in ("make_request", "make_stream_request"):
    setattr(ServerProcess, name, _with_ours(getattr(ServerProcess, name)))
