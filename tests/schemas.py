"""Random JSON Schemas, and a model that speaks at random but comes to an end."""

from hypothesis import strategies as st

from thermoscope.engine.request import Request, Sampling

# The tiny model has no space.
NAMES = st.sampled_from(["a", "b", "name", "x-y", 'q"uote', "not", "items"])
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6)
VALUES = st.none() | st.booleans() | st.integers(-99, 99) | st.sampled_from([0.5, -2.25, 1e3]) | TEXTS
PATTERNS = ["^[a-c]{2,4}$", "^(left|right)$", "[0-9]", "^x", "y$", "^a.*b$", "^\\d{3}-\\d{2}$"]
FORMATS = ["date", "time", "date-time", "ipv4", "uuid", "email", "hostname", "duration"]


def bounded(least, most, low, high):
    """Two bounds in their order, either of which may be missing."""
    pairs = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    return pairs.flatmap(
        lambda pair: st.fixed_dictionaries({}, optional={least: st.just(pair[0]), most: st.just(pair[1])})
    )


def strings():
    return st.one_of(
        bounded("minLength", "maxLength", 0, 8),
        st.sampled_from(PATTERNS).map(lambda pattern: {"pattern": pattern}),
        st.sampled_from(FORMATS).map(lambda form: {"format": form}),
    ).map(lambda more: {"type": "string"} | more)


def numbers():
    ends = st.one_of(
        bounded("minimum", "maximum", -200, 200), bounded("exclusiveMinimum", "maximum", -50, 50), st.just({})
    )
    steps = st.sampled_from([{}, {}, {"multipleOf": 3}, {"multipleOf": 0.5}])
    kind = st.sampled_from(["integer", "number"])
    return st.tuples(kind, ends, steps).map(lambda parts: {"type": parts[0]} | parts[1] | parts[2])


def leaves():
    return st.one_of(
        strings(),
        numbers(),
        st.sampled_from(["null", "boolean"]).map(lambda kind: {"type": kind}),
        st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
        VALUES.map(lambda value: {"const": value}),
        st.sampled_from([["string", "null"], ["integer", "boolean"]]).map(lambda kinds: {"type": kinds}),
    )


def arrays(inner):
    return st.tuples(
        bounded("minItems", "maxItems", 0, 3),
        st.fixed_dictionaries(
            {"items": inner | st.just(False)},
            optional={"prefixItems": st.lists(inner, min_size=1, max_size=2)},
        ),
    ).map(lambda parts: {"type": "array"} | parts[0] | parts[1])


def objects(inner):
    def made(parts):
        named, required, rest = parts
        keys = sorted(named)[: required % (len(named) + 1)]
        return {"type": "object", "properties": named, "required": keys, "additionalProperties": rest}

    rest = st.just(False) | inner
    return st.tuples(st.dictionaries(NAMES, inner, max_size=4), st.integers(0, 4), rest).map(made)


def schemas():
    """Of every keyword that is supported, nested; a few contradict themselves."""
    parts = st.recursive(
        leaves(),
        lambda inner: st.one_of(
            arrays(inner),
            objects(inner),
            st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": each}),
            st.lists(inner, min_size=1, max_size=2).map(lambda each: {"allOf": each}),
            inner.map(lambda each: {"$defs": {"it": each}, "type": "array", "items": each, "maxItems": 2}),
        ),
        max_leaves=6,
    )
    referred = st.tuples(parts, parts).map(
        lambda pair: {
            "$defs": {"it": pair[0]},
            "type": "object",
            "properties": {"one": {"$ref": "#/$defs/it"}, "other": pair[1]},
            "required": ["one"],
            "additionalProperties": False,
        }
    )
    return parts | referred


def asked(grammar, tokenizer, seed, limit=160):
    """An answer that likes to close what is open: at random it would go on for long."""
    (end,) = tokenizer.end_ids
    likes = {tokenizer.encode(char)[0]: nats for char, nats in (('"', 5.0), ("}", 4.0), ("]", 4.0))}
    sampling = Sampling(seed=seed, max_tokens=limit, logit_bias=likes | {end: 8.0})
    return Request(prompt=(10, 20, 30), sampling=sampling, grammar=grammar, record=False)
