from thermoscope.catalogue.names import nearest, plain


def test_two_spellings_of_a_name_are_one():
    assert plain("Llama-3.1 8B") == plain("llama_3.1-8b") == "llama318b"


def test_near_names_are_suggested_once_each():
    known = {"a100": "A100", "a100sxm": "A100", "t4": "T4"}
    assert nearest("A100-SXN", known) == "did you mean 'A100'? "
    assert nearest("zzz", known) == ""
