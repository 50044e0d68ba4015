from hypothesis import example, given
from hypothesis import strategies as st

from thermoscope.engine.text import TextStream

# Few letters, so that stop strings are found, half found, and inside one another.
LETTERS = st.text(alphabet="abé🙂", max_size=24)
STOPS = st.lists(st.text(alphabet="abé🙂", min_size=1, max_size=4), max_size=3)


@st.composite
def cut(draw, texts=LETTERS):
    """A text, and its bytes cut anywhere, also inside characters and into empty pieces."""
    text = draw(texts)
    data = text.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=len(data) + 3)))
    return text, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def run(chunks, stop):
    """Push chunks until one stops; the last one says that it is the last."""
    stream = TextStream(stop)
    shown = []
    for index, chunk in enumerate(chunks):
        shown.append(stream.push(chunk, last=index == len(chunks) - 1))
        if shown[-1].stopped:
            break
    return shown


def until_stop(text, stop):
    """The answer by definition: read letter by letter until the first stop string is complete."""
    for end in range(1, len(text) + 1):
        ended = [each for each in stop if text[:end].endswith(each)]
        if ended:
            return text[: end - max(map(len, ended))], True
    return text, False


@given(cut(), STOPS)
@example(("xaby", [b"xaby"]), ["ab", "xaby"])  # one token completes both
@example(("aab", [b"a", b"a", b"b"]), ["ab"])  # the held "a" turns out to be text
@example(("aé", [b"a\xc3", b"\xa9"]), ["é"])
def test_what_is_shown_ends_where_the_first_stop_begins_however_tokens_cut_it(given, stop):
    text, chunks = given
    shown = run(chunks, stop)
    expected, stopped = until_stop(text, stop)
    assert "".join(each.text for each in shown) == expected
    assert shown[-1].stopped == stopped


@given(cut(), STOPS)
def test_nothing_shown_is_ever_taken_back_or_could_still_be(given, stop):
    """After every push, what was shown is a beginning of the answer, whatever comes next."""
    _, chunks = given
    stream, shown = TextStream(stop), ""
    for index, chunk in enumerate(chunks):
        result = stream.push(chunk)
        shown += result.text
        if result.stopped:
            break
        so_far = b"".join(chunks[: index + 1]).decode("utf-8", "ignore")
        for each in stop:
            for rest in range(len(each) + 1):
                assert until_stop(so_far + each[rest:], stop)[0].startswith(shown)


@given(cut())
def test_without_stops_every_whole_character_is_shown_at_once(given):
    text, chunks = given
    stream, seen = TextStream(), b""
    shown = ""
    for chunk in chunks:
        seen += chunk
        shown += stream.push(chunk).text
        assert shown == seen.decode("utf-8", "ignore")
    assert shown == text


@given(cut(), STOPS)
def test_pieces_join_to_the_whole_text_and_none_is_held_back(given, stop):
    text, chunks = given
    shown = run(chunks, stop)
    read = b"".join(chunks[: len(shown)]).decode("utf-8", "ignore")
    assert "".join(each.piece for each in shown) == read
    if not shown[-1].stopped:
        assert read == text


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=6))
def test_bytes_that_are_no_utf8_are_replaced_and_never_lost(chunks):
    shown = run(chunks, ())
    assert "".join(each.text for each in shown) == b"".join(chunks).decode("utf-8", "replace")


def test_half_a_stop_string_is_held_and_then_shown_at_the_end():
    stream = TextStream(["</tool>", "\n\n"])
    assert stream.push(b"so </to").text == "so "
    assert stream.push(b"p>\n").text == "</top>"
    assert stream.push(b"", last=True).text == "\n"


def test_an_open_character_is_held_and_given_up_only_at_the_end():
    stream = TextStream()
    assert stream.push(b"a\xf0\x9f").text == "a"
    assert stream.push(b"\x99").text == ""
    assert stream.push(b"", last=True).text == "\ufffd"


def test_a_stop_string_over_many_tokens_is_cut_whole():
    shown = run([b"one", b"<", b"|", b"e", b"n", b"d", b"|", b">", b"two"], ["<|end|>"])
    assert [each.text for each in shown] == ["one", *[""] * 7]
    assert [each.stopped for each in shown] == [*[False] * 7, True]
