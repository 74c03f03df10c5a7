"""The voice that tells the stories: chance, and the few rules of English that the sentences need."""

import random

import world


class Teller:
    """Chooses words. Everything it chooses comes from one seed, so that the same seed gives the same book."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.begin_chapter()

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

    def begin_chapter(self):
        """The next stories are about the same two friends. A model that reads them packed side by side meets each name often
        enough to learn that a story keeps to its names."""
        child = self.one(world.CHILDREN)
        self.two = [child, world.CHILD[child.friend]]

    def child(self):
        return self.one(self.two)

    def friends(self, count=2):
        """The two of this chapter in any order, and others where more are asked for, friend beside friend."""
        together = self.some(self.two, 2)
        while len(together) < count:
            child = self.one(world.CHILDREN)
            if child not in together:
                together += [child, world.CHILD[child.friend]]
        return together[:count]

    def introduction(self, child):
        return self.maybe(f"{child.name} lived {child.home} and had {a(child.pet)}.", 0.35)

    def cheer(self, child):
        return self.maybe(f'"{child.cheer}!" {self.pick("cried", "said")} {child.name}.')

    def farewell(self, child, friend):
        word = self.pick("Good night", "Goodbye")
        return self.maybe(f'"{word}, {friend.name}," said {child.name}. "{word}, {child.name}," said {friend.name}.', 0.4)

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
