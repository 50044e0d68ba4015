r"""A card's law, which is LaTeX, as a terminal and as a page can show it.

A terminal has one line: `\frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}` is exp(zᵢ/T) / (Σⱼ exp(zⱼ/T)) there.
What Unicode has no raised or lowered letter for stands after ^ or _, in brackets if it is more than a word. A
command that is not known here is shown by its name.
"""

import re


def _pairs(text: str) -> dict[str, str]:
    return dict(zip(text.split()[::2], text.split()[1::2], strict=True))


RAISED, SMALL = "0123456789+−=()abcdefghijklmnoprstuvwxyzT⊤*′", "0123456789+−=()aehijklmnoprstuvx"
SUPER = dict(zip(RAISED, "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀᵀ*′", strict=True))
SUB = dict(zip(SMALL, "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
LETTERS = _pairs(
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε eta η theta θ lambda λ mu μ nu ν xi ξ pi π rho ρ "
    "sigma σ tau τ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Sigma Σ Phi Φ Omega Ω "
    "ell ℓ nabla ∇ partial ∂ infty ∞ top ⊤ prime ′ circ ∘ cdot · ldots … dots … cdots … lVert ‖ rVert ‖ "
    "Vert ‖ | ‖ lvert | rvert | langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ { { } } % % _ _ & & # #"
)
SPACED = _pairs(
    "= = + + - − < < > > le ≤ leq ≤ ge ≥ geq ≥ ne ≠ approx ≈ propto ∝ sim ∼ equiv ≡ in ∈ subset ⊂ "
    "cup ∪ cap ∩ times × pm ± mid | to → rightarrow → Rightarrow ⇒ iff ⟺ Longleftrightarrow ⟺ "
    "odot ⊙ otimes ⊗ oplus ⊕"
)
GREAT = {"sum": "Σ", "prod": "Π", "int": "∫"}
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "vec": "\u20d7", "dot": "\u0307"}
WORDS = ("text", "mathrm", "operatorname", "textrm", "mathit", "mathbf", "mathcal", "mathbb", "boldsymbol")
SIZES = re.compile(r"(left|right|middle|[bB]igg?[lrm]?)$")  # of the bracket that follows
SPACES = (",", ";", ":", " ", "quad", "qquad", "\\")
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)


def unicode(law: str) -> str:
    """One line of Unicode text."""
    reader = _Reader(law)
    parts = []
    while reader.left:
        parts.append(reader.until_brace())
        reader.take()  # a brace that closes nothing
    return _tidy("".join(parts))


def mathml(law: str) -> str:
    """A MathML element, for a page that needs nothing else to draw it; of no law, nothing."""
    if not law.strip():
        return ""
    from latex2mathml.converter import convert

    return str(convert(law, display="block"))


class _Reader:
    """Reads tokens from the left; a command is its name after a backslash."""

    def __init__(self, law: str) -> None:
        self._tokens = TOKEN.findall(law)

    @property
    def left(self) -> bool:
        return bool(self._tokens)

    def take(self) -> str:
        return self._tokens.pop(0) if self._tokens else ""

    def until_brace(self) -> str:
        """All up to a closing brace, or the end."""
        parts = []
        while self._tokens and self._tokens[0] != "}":
            parts.append(self.piece())
        return "".join(parts)

    def argument(self) -> str:
        """A group, or the next token alone."""
        self._skip()
        if self._next() != "{":
            return self._alone(self.take()).strip()
        self.take()
        inside = self.until_brace()
        self.take()
        return _tidy(inside)

    def piece(self) -> str:
        """The next thing, with what is raised or lowered behind it."""
        token = self.take()
        name = token[1:] if token[0] == "\\" and len(token) > 1 else ""
        if name in GREAT or _is_function(name):
            scripts = self._scripts()
            opens = self._next() in ("(", "[", "\\left", "")
            return " " + GREAT.get(name, name) + scripts + ("" if opens and name not in GREAT else " ")
        if token == "{":
            inside = self.until_brace()
            self.take()
            return inside + self._scripts()
        return self._alone(token) + self._scripts()

    def _alone(self, token: str) -> str:
        if token[:1] != "\\":
            return (
                " " if token == "~" else "" if token.isspace() else ", " if token == "," else _spaced(token)
            )
        name = token[1:]
        if name in ("frac", "tfrac", "dfrac"):
            return f"{_bracketed(self.argument())} / {_bracketed(self.argument())}"
        if name == "sqrt":
            return "√" + _bracketed(self.argument())
        if name in ACCENTS:
            return self.argument() + ACCENTS[name]
        if name in WORDS:
            return self._text()
        if name in SPACES:
            return " "
        if name == "!":
            return ""
        if SIZES.match(name):
            self._skip()
            if self._next() == ".":
                self.take()
            return ""
        return LETTERS.get(name) or _spaced(name)

    def _text(self) -> str:
        """A group's own characters, spaces and all."""
        if self._next() != "{":
            return self._alone(self.take())
        self.take()
        parts = []
        while self._tokens and self._tokens[0] != "}":
            parts.append(self.take().removeprefix("\\"))
        self.take()
        return "".join(parts)

    def _scripts(self) -> str:
        found = ""
        while self._after_space() in ("_", "^"):
            self._skip()
            mark = self.take()
            found += _script(mark, self.argument().replace(" ", ""))
        runs_on = re.search(r"[_^]\w+$", found) and re.match(r"\\?[A-Za-z]", self._after_space())
        return f"{found} " if runs_on else found

    def _skip(self) -> None:
        while self._tokens and self._tokens[0].isspace():
            self.take()

    def _next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _after_space(self) -> str:
        """The next token that is no white space."""
        return next((token for token in self._tokens if not token.isspace()), "")


def _is_function(name: str) -> bool:
    """Whether it is shown by its name, as log is."""
    known = (*LETTERS, *SPACED, *ACCENTS, *WORDS, *SPACES, "frac", "tfrac", "dfrac", "sqrt")
    return name.isalpha() and name not in known and not SIZES.match(name)


def _spaced(token: str) -> str:
    return f" {SPACED[token]} " if token in SPACED else token


def _script(mark: str, text: str) -> str:
    """Raised or lowered, where Unicode can: an index, but no words."""
    small = SUPER if mark == "^" else SUB
    if all(each in small for each in text) and not (len(text) > 1 and text.isalpha()):
        return "".join(small[each] for each in text)
    return f"{mark}{text}" if len(text) == 1 or text.isalnum() else f"{mark}({text})"


def _bracketed(text: str) -> str:
    """In brackets where it is more than one thing: one with nothing outside brackets but a name."""
    outside = text
    while (less := re.sub(r"\([^()]*\)", "", outside)) != outside:
        outside = less
    return f"({text})" if re.search(r"[\s/]", outside) else text


def _tidy(text: str) -> str:
    """One space where several meet, and none inside a bracket, after a sign or before a comma."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(?<=[(\[{⟨]) | (?=[)\]},;⟩])", "", text)
    return re.sub(r"(^|[(\[{,=⟺] ?)([−+]) ", r"\1\2", text)
