"""The voice that tells the stories: chance, and the few rules of English that the sentences need."""

import random

import world


class Teller:
    """Chooses words. Everything it chooses comes from one seed, so that the same seed gives the same book."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def one(self, table):
        return self.random.choice(table)

    def some(self, table, count):
        """`count` different rows in a random order."""
        return self.random.sample(table, count)

    def maybe(self, sentence, chance=0.5):
        """The sentence, or nothing. Paragraphs drop what is empty."""
        return sentence if self.random.random() < chance else ""

    def number(self, low, high):
        return self.random.randint(low, high)

    def children(self, count):
        return self.some(world.CHILDREN, count)

    def helper(self):
        """Someone to ask."""
        return self.one(["Grandmother", "Grandfather", "the old owl", "the miller", "the farmer", "the baker", "the postman"])


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def the(words):
    """a key | the key"""
    return "the " + words.split(" ", 1)[1]


def number(count):
    return world.NUMBERS[count]


def many(count, singular, plural):
    return f"{number(count)} {singular if count == 1 else plural}"


def were(count):
    return "was" if count == 1 else "were"


def listed(things):
    """one | one and two | one, two and three"""
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]


def counted(count):
    """one, two, three: counting aloud up to `count`."""
    return ", ".join(world.NUMBERS[1 : count + 1])


def upper(sentence):
    return sentence[0].upper() + sentence[1:]


def paragraph(*sentences):
    return " ".join(upper(sentence) for sentence in sentences if sentence)


def story(*paragraphs):
    return "\n".join(text for text in paragraphs if text)
