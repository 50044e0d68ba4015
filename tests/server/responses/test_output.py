"""The events of an answer, one by one, and the items that they leave behind."""

from thermoscope.server.responses.output import Output


def told(events):
    return [
        (event["type"].removeprefix("response."), event["output_index"], event.get("delta"))
        for event in events
    ]


def test_text_a_call_and_text_again():
    output = Output()
    heard = [
        *output.say("Let me ", []),
        *output.say("add.", []),
        *output.call("c1", "add"),
        *output.argue('{"a":'),
        *output.argue("1}"),
        *output.say("So.", []),
        *output.close("incomplete"),
        *output.close(),
    ]
    assert told(heard) == [
        ("output_item.added", 0, None),
        ("content_part.added", 0, None),
        ("output_text.delta", 0, "Let me "),
        ("output_text.delta", 0, "add."),
        ("output_text.done", 0, None),
        ("content_part.done", 0, None),
        ("output_item.done", 0, None),
        ("output_item.added", 1, None),
        ("function_call_arguments.delta", 1, '{"a":'),
        ("function_call_arguments.delta", 1, "1}"),
        ("function_call_arguments.done", 1, None),
        ("output_item.done", 1, None),
        ("output_item.added", 2, None),
        ("content_part.added", 2, None),
        ("output_text.delta", 2, "So."),
        ("output_text.done", 2, None),
        ("content_part.done", 2, None),
        ("output_item.done", 2, None),
    ]
    assert [item["status"] for item in output.items] == ["completed", "completed", "incomplete"]
    done = [event["item"] for event in heard if event["type"] == "response.output_item.done"]
    assert done == output.items
    assert output.items[1]["arguments"] == '{"a":1}'
    assert output.items[0]["content"][0]["text"] == "Let me add."


def test_an_event_that_waits_does_not_change():
    output = Output()
    added, part, delta = output.say("a", [{"token": "a"}])
    list(output.say("b", [{"token": "b"}]))
    list(output.close())
    assert added["item"]["content"] == []
    assert added["item"]["status"] == "in_progress"
    assert (part["part"]["text"], part["part"]["logprobs"]) == ("", [])
    assert (delta["delta"], delta["logprobs"]) == ("a", [{"token": "a"}])
