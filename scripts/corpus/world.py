"""The small world that the demo corpus tells of: who lives there, what things are, and what follows from what.

Everything that a story may state as a fact is a row of a table here, so that every story agrees with every other:
the same animal always makes the same sound, a lost thing turns up where such a thing would, two paints always give
the same third, and what is Tom's is blue.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    name: str
    he: str
    him: str
    his: str

    @property
    def He(self):
        return self.he.capitalize()

    @property
    def His(self):
        return self.his.capitalize()


@dataclass(frozen=True)
class Child(Person):
    colour: str      # of all that is this child's
    treasure: tuple  # what it collects: one, many
    pet: str
    home: str
    cheer: str       # what it says when all is well
    friend: str      # with whom it is seen


def girl(name, *facts):
    return Child(name, "she", "her", "her", *facts)


def boy(name, *facts):
    return Child(name, "he", "him", "his", *facts)


CHILDREN = [
    girl("Mia", "red", ("apple", "apples"), "cat", "at the mill", "Oh my", "Tom"),
    boy("Tom", "blue", ("nut", "nuts"), "dog", "at the inn", "Hurrah", "Mia"),
    girl("Anna", "yellow", ("pear", "pears"), "duck", "on the farm", "How lovely", "Ben"),
    boy("Ben", "green", ("stone", "stones"), "frog", "by the pond", "Splendid", "Anna"),
    girl("Lily", "white", ("shell", "shells"), "hen", "in the lighthouse", "Well done", "Max"),
    boy("Max", "brown", ("plum", "plums"), "goat", "behind the school", "Good heavens", "Lily"),
    girl("Rosa", "purple", ("feather", "feathers"), "mouse", "above the bakery", "What luck", "Leo"),
    boy("Leo", "orange", ("button", "buttons"), "pig", "in the castle", "Bravo", "Rosa"),
]
CHILD = {child.name: child for child in CHILDREN}
COLOURS = [child.colour for child in CHILDREN]
GRANDMOTHER = Person("Grandmother", "she", "her", "her")
GRANDFATHER = Person("Grandfather", "he", "him", "his")
GROWN_UPS = [GRANDMOTHER, GRANDFATHER]

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@dataclass(frozen=True)
class Animal:
    name: str
    sound: str
    home: str
    food: str
    size: int    # 1 is the smallest; only animals of different sizes are compared
    traits: tuple  # what a riddle tells of it, in its own voice


ANIMALS = [
    Animal("cow", "moo", "in the barn", "grass", 8, ("I have four legs and two horns", "I give milk every morning")),
    Animal("dog", "woof", "in the kennel", "a bone", 5, ("I have four legs and a tail that wags", "I guard the house")),
    Animal("cat", "meow", "by the stove", "a bowl of milk", 4, ("I have soft paws and long whiskers", "I chase mice at night")),
    Animal("duck", "quack", "in the reeds", "a crust of bread", 3, ("I have two wings and a flat beak", "I swim on the pond")),
    Animal("frog", "croak", "in the pond", "a fat fly", 2, ("I have long legs and green skin", "I jump from leaf to leaf")),
    Animal("bee", "buzz", "in the hive", "sweet flowers", 1, ("I have small wings and stripes", "I make honey all summer")),
    Animal("sheep", "baa", "on the hill", "clover", 6, ("I have four legs and a coat of wool", "I follow the shepherd")),
    Animal("horse", "neigh", "in the stable", "oats", 9, ("I have four legs and a long mane", "I pull the cart to town")),
    Animal("owl", "hoo", "in the hollow tree", "supper at midnight", 3, ("I have two wings and big round eyes", "I sleep all day")),
    Animal("mouse", "squeak", "under the stairs", "a crumb of cheese", 1, ("I have tiny ears and a thin tail", "I hide from the cat")),
    Animal("hen", "cluck", "in the straw", "corn", 3, ("I have two legs and a red comb", "I lay an egg every day")),
    Animal("bear", "growl", "in the cave", "honey", 9, ("I have thick fur and heavy paws", "I sleep all winter")),
    Animal("goat", "bleat", "in the yard", "thistles", 6, ("I have four legs and a short beard", "I climb on every rock")),
    Animal("pig", "oink", "in the sty", "turnips", 7, ("I have a curly tail and a pink nose", "I love to roll in the mud")),
]
ANIMAL = {animal.name: animal for animal in ANIMALS}
RAIN_LOVERS = {"dog", "duck", "frog", "pig"}

# Wild animals that can be the hero of a story, with the home they sleep in and what they like best.
HEROES = [
    ("fox", "den", "berries"), ("rabbit", "burrow", "carrots"), ("squirrel", "nest", "nuts"), ("bear", "cave", "honey"),
    ("mouse", "hole", "cheese"), ("hedgehog", "bed of leaves", "apples"), ("badger", "tunnel", "mushrooms"),
]
NATURES = ["little", "young", "small", "clever", "shy", "merry"]

# Things that get lost: where each is found in the end, and how it came there.
LOST = {
    "kite": [("in the branches of the apple tree", "The wind had carried it there"),
             ("on the roof of the barn", "A strong wind had dropped it there")],
    "ball": [("under the bench", "It had rolled there by itself"),
             ("in the ditch behind the house", "It had rolled all the way down the path")],
    "hat": [("on the head of the scarecrow", "The wind had put it there"),
            ("on the hook behind the door", "It had been there all the time")],
    "scarf": [("on the garden fence", "It had been hung there to dry"),
              ("in the cat's basket", "The cat had made a warm bed of it")],
    "shoe": [("in the kennel", "The dog had carried it off to chew"),
             ("under the bed", "The cat had pushed it there")],
    "spoon": [("in the nest of the magpie", "The magpie loves all things that shine"),
              ("at the bottom of the soup pot", "It had slipped in with the carrots")],
    "book": [("under the pillow", "It had been read there last night"),
             ("on the swing", "It had been left there after the last page")],
    "boat": [("in the reeds by the pond", "The water had taken it there"),
             ("beside the old bridge", "The stream had carried it down")],
    "mitten": [("in the hole of the mouse", "The mouse had made a soft bed of it"),
               ("on top of the snowman", "It had been his little cap all night")],
    "bell": [("around the neck of the goat", "Someone had hung it there for fun"),
             ("in the hay", "It had fallen from the cart")],
}

# Places where nothing is found, and what is there instead.
EMPTY_PLACES = [
    ("under the table", "only a ball of dust"), ("behind the door", "only an old broom"),
    ("in the cupboard", "only cups and plates"), ("in the shed", "only a rake and a spade"),
    ("under the stairs", "only a box of old toys"), ("in the garden", "only a row of beans"),
    ("by the well", "only a bucket with a hole"), ("in the attic", "only a trunk and a spider"),
    ("by the gate", "only a sleepy snail"), ("in the kitchen", "only the warm smell of bread"),
]

EATEN = {"apples", "pears", "plums", "nuts"}

# Two paints, what they give, and what can be painted with it.
MIXTURES = [
    ("blue", "yellow", "green", ["a frog", "a leaf", "a tall tree", "a meadow"]),
    ("red", "yellow", "orange", ["a pumpkin", "a fox", "a carrot", "the evening sun"]),
    ("red", "blue", "purple", ["a plum", "a bunch of grapes", "a violet", "a king's coat"]),
    ("red", "white", "pink", ["a pig", "a rose", "a flamingo"]),
    ("black", "white", "grey", ["a mouse", "a donkey", "a rain cloud"]),
]

# Seeds: what grows, what it looks like when it is ripe, and what is made of it.
PLANTS = [
    ("sunflower", "a tall yellow flower that turned its head to the sun", "gave the seeds to the birds"),
    ("pumpkin", "a round orange pumpkin as big as a chair", "made a pot of soup from it"),
    ("bean", "long green beans that climbed up a pole", "cooked them for supper"),
    ("carrot", "a crisp orange carrot", "shared it with the rabbit"),
    ("strawberry", "sweet red strawberries", "ate them with cream"),
    ("tomato", "round red tomatoes", "cut them up for a salad"),
    ("rose", "a red rose that smelled of summer", "put it in a glass by the window"),
]

WARES = [("a loaf of bread", "the baker", 2), ("a jar of honey", "the beekeeper", 4), ("a pot of jam", "the farmer", 3),
         ("a ball of wool", "the weaver", 2), ("a candle", "the candle maker", 1), ("a clay cup", "the potter", 3),
         ("a fresh fish", "the fisherman", 4), ("a bag of flour", "the miller", 3), ("a ribbon", "the tailor", 1),
         ("a wooden spoon", "the carver", 2)]

# A way through the country: how one goes out, and how one comes back.
ROADS = [("over the bridge", "over the bridge"), ("through the wood", "through the wood"), ("up the hill", "down the hill"),
         ("across the meadow", "across the meadow"), ("along the river", "along the river"),
         ("past the mill", "past the mill"), ("into the valley", "out of the valley"), ("around the lake", "around the lake")]

SOUP = ["carrots", "onions", "beans", "peas", "leeks", "turnips", "mushrooms", "potatoes", "barley", "cabbage"]

# Trouble, what mends it, and how it is mended: {animal} and {child.he} are filled in by the story.
TROUBLES = [
    ("had a thorn in its paw", "a pair of tweezers", "pulled out the thorn", ["fox", "hedgehog", "rabbit", "bear", "badger"]),
    ("was stuck in the mud", "a long rope", "pulled it out of the mud", ["goat", "sheep", "donkey", "calf"]),
    ("had fallen into a hole", "a ladder", "helped it to climb out of the hole", ["kitten", "fox", "goat", "badger"]),
    ("was caught in a net", "a pair of scissors", "cut the net", ["duck", "swan", "rabbit", "otter"]),
    ("was shivering in the snow", "a warm blanket", "wrapped it in the blanket", ["kitten", "sparrow", "rabbit", "puppy"]),
    ("could not reach its nest", "a tall ladder", "carried it up to the nest", ["sparrow", "squirrel", "young owl"]),
]

# Noises in the night, and what they were.
NOISES = [
    ("tap, tap, tap", "a branch that tapped on the window"), ("drip, drip, drip", "the rain that dripped from the roof"),
    ("creak, creak", "the garden gate that swung in the wind"), ("scratch, scratch", "the cat that wanted to come in"),
    ("hoo, hoo", "the owl in the hollow tree"), ("squeak, squeak", "a mouse that danced under the stairs"),
    ("bump, bump, bump", "an apple that rolled over the attic floor"),
    ("tick, tock", "the old clock in the hall"), ("croak, croak", "a frog that sang to the moon"),
]

HIDING = ["behind the curtain", "under the bed", "in the big basket", "behind the barrel", "in the hay", "under the cart",
          "behind the apple tree", "in the wardrobe", "behind the woodpile", "under the table"]

# What a boat is made of, and whether it floats.
BOATS = [("a leaf", True), ("a piece of bark", True), ("a walnut shell", True), ("a bit of wood", True), ("a cork", True),
         ("a stone", False), ("an iron nail", False), ("a brick", False), ("a spoon", False), ("a key", False)]

# What one does on each kind of day.
CHORES = ["washed the windows", "baked bread", "picked berries", "fed the hens", "swept the yard", "mended the fence",
          "read a book", "went fishing", "planted beans", "painted the gate", "visited Grandmother", "flew a kite",
          "chopped wood", "cooked soup", "wrote a letter", "sewed a button on the coat"]
