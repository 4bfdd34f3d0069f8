"""English digits as they are spoken, and the classes they belong to."""

# What TIDIGITS's names and alignments write -> the word that is said.
WORDS = {
    **{
        str(digit): word
        for digit, word in enumerate(
            ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), 1
        )
    },
    "z": "zero",
    "o": "oh",
}
OH = ("zero", "drop", "separate")


def digit_label(symbol: str, oh: str) -> str | None:
    """Class of one of the symbols of `WORDS`, or of the word itself; None is no class.

    oh: what "oh" is: ``zero`` (class "0"), ``drop`` (None) or ``separate`` (class "o").
    """
    symbol = _SYMBOLS.get(symbol, symbol)
    if symbol == "o":
        return {"zero": "0", "drop": None, "separate": "o"}[oh]
    if symbol == "z":
        return "0"
    return symbol if symbol in WORDS else None


_SYMBOLS = {word: symbol for symbol, word in WORDS.items()}
