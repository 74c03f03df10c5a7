"""Text to train tokenizers on and to try them with: a language that nobody speaks, and random Unicode."""

import unicodedata

SPACE = "\u2581"  # ▁


def assigned(first, last):
    """The characters of a range that Unicode has given a meaning to: of the others, libraries of other ages differ."""
    return [chr(c) for c in range(first, last) if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs")]


POOLS = [
    list("abcdefghijklmnopqrstuvwxyz"), list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), list("0123456789"), [" "],
    list("\t\n\r") + ["\r\n", "  ", "\n\n"], list(".,;:!?'\"()[]{}<>|/\\@#$%^&*-_=+~`"),
    list("\u00a0\u3000\u2003\u2028\u0085\u180e\u200b\u200c\u200d\ufeff\u00ad"), assigned(0xA1, 0x250),
    assigned(0x300, 0x370), assigned(0x370, 0x600), assigned(0x900, 0xE00), assigned(0x3040, 0x3100),
    assigned(0x4E00, 0x4F00), assigned(0xAC00, 0xAD00), assigned(0x1F300, 0x1F600), assigned(0x1F1E6, 0x1F200),
    assigned(0x10000, 0x10100) + assigned(0x1D400, 0x1D500), [chr(c) for c in range(0x20)] + ["\x7f"],
    ["'s", "'LL", "'Re", "'\u017f", "\ufb01", "½", "Ⅷ", "٣", "①", "ⓐ", "🏳️‍🌈", "👩‍👩‍👧", SPACE, "Ġ", "<0x41>", "e\u0301",
     "\u212b", "\u1e9e", "\U0001F150", "I'M", "don't"],
]


def words(draw, count):
    """Text of a language that nobody speaks: words of syllables, some of them often."""
    syllables = [a + b for a in ("b", "d", "k", "l", "m", "n", "r", "st", "th", "v") for b in ("a", "e", "i", "o", "un")]
    lexicon = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(60)]
    lexicon = lexicon * 3 + lexicon[:8] * 20
    signs = [".", ",", "!", "?", ";", " -", "'s", "'ll", "...", "\n", "\n\n", " 42", " 1999", " 7", " é", " ñandú", " дом",
             " 日本", " 🙂", "  ", "\t"]
    parts = []
    for _ in range(count):
        word = draw.choice(lexicon)
        parts.append(" " + (word.capitalize() if draw.random() < 0.2 else word))
        if draw.random() < 0.3:
            parts.append(draw.choice(signs))
    return "".join(parts).strip()


def random_text(draw, names):
    """A few kinds of characters at a time, so that their borders are met often; sometimes a token's own name."""
    pools = draw.sample(POOLS, draw.randint(1, 6))
    parts = []
    for _ in range(draw.choice([1, 2, 4, 8, 16, 24])):
        part = draw.choice(draw.choice(pools)) * draw.choice([1, 1, 1, 1, 2, 3])
        if names and draw.random() < 0.15:
            part = draw.choice(names)
        parts.append(part)
    return "".join(parts)
