"""The spoken commands of the synthetic corpus: a small context-free grammar, drawn from at random.

`<name>` stands for any line of the rule of that name. Numbers that differ in one phone (fifteen, fifty) and
strings of digits, which no language model can guess, keep the recogniser dependent on its acoustic model.
"""

import numpy as np

GRAMMAR: dict[str, list[str]] = {
    "command": ["<home>", "<home>", "<time>", "<time>", "<media>", "<phone>", "<phone>", "<list>"],
    "home": [
        "turn <switch> the <room> <device>",
        "turn the <room> <device> <switch>",
        "set the <room> <device> to <number> percent",
        "<move> the <room> <opening>",
        "<move> the <opening> in the <room> at <clock>",
    ],
    "time": [
        "set a timer for <number> <unit>",
        "remind me in <number> <unit> to call <person>",
        "wake me at <clock>",
        "set the alarm for <clock> on <day>",
        "is there a meeting at <clock> on <day>",
    ],
    "media": [
        "play <music> in the <room>",
        "play <music> at <clock>",
        "turn the volume <direction> to <number>",
        "<direction> <number> <unit>",
    ],
    "phone": [
        "call <person> at <digit> <digit> <digit> <digit> <digit> <digit>",
        "dial <digit> <digit> <digit> <digit> <digit>",
        "call <person> on <day> at <clock>",
        "tell <person> the code is <digit> <digit> <digit> <digit>",
    ],
    "list": ["add <number> <thing> and <number> <thing> to the list", "add <number> <thing> for <person>"],
    "clock": ["<digit> <tens>", "<digit> <teen>", "ten <tens>", "<digit>"],
    "number": ["<digit>", "<teen>", "<tens>", "<tens> <digit>", "<teen>", "<tens>"],
    "digit": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "teen": ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"],
    "tens": ["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
    "switch": ["on", "off"],
    "direction": ["up", "down"],
    "unit": ["minutes", "seconds", "hours", "days"],
    "day": ["sunday", "monday", "friday", "saturday"],
    "room": ["kitchen", "bedroom", "bathroom", "hall", "cellar", "garden"],
    "device": ["light", "lights", "lamp", "fan", "heater"],
    "move": ["open", "close", "lock"],
    "opening": ["door", "doors", "window", "gate"],
    "music": ["jazz", "rock", "the news", "some music", "the radio"],
    "person": ["mary", "harry", "larry", "john", "joan", "peter"],
    "thing": ["apples", "pears", "beans", "peas", "eggs"],
}


def draw_sentence(rng: np.random.Generator) -> str:
    """Draw a command: lower-case words separated by single spaces."""
    return " ".join(_expand("<command>", rng))


def list_vocabulary() -> set[str]:
    """All words of the grammar."""
    return {word for lines in GRAMMAR.values() for line in lines for word in line.split() if word[0] != "<"}


def _expand(symbol: str, rng: np.random.Generator) -> list[str]:
    if not symbol.startswith("<"):
        return [symbol]
    lines = GRAMMAR[symbol.strip("<>")]
    return [word for part in lines[rng.integers(len(lines))].split() for word in _expand(part, rng)]
