"""Stories about friends: those who help, hide, write, listen in the dark and say good night."""

import world
from teller import a, listed, number, paragraph, story, upper


def trouble(t):
    child = t.child()
    what, tool, mend, animals = t.one(world.TROUBLES)
    animal = t.one(animals)
    begin = paragraph(t.introduction(child), f"On {child.his} way {t.pick('home', 'to school', 'to the mill', 'through the wood')} {child.name} met {a(animal)} that {what}.",
                      t.pick(f'"Do not be afraid," said {child.name}. "I will help you."', f'"You poor {animal}," said {child.name}.'))
    middle = paragraph(f"{child.He} ran home and came back with {tool}.",
                       f"Then {child.he} {mend}{', very gently' if t.number(0, 1) else ''}.",
                       t.pick(f"The {animal} was free and happy again.", f"The {animal} looked at {child.him} with big eyes."))
    gift = t.pick("a feather", "a shining stone", "a nut", "a flower", "a wild strawberry")
    end = t.pick(
        paragraph(f"The next day there lay {gift} on the doorstep.", f"It was a present from the {animal}."),
        paragraph(f"A year later {child.name} was lost in the fog.", f"The {animal} came and showed {child.him} the way home.",
                  f'"You helped me, and now I help you," it seemed to say.'),
        paragraph(f"After that the {animal} came every {t.pick('morning', 'evening')} to say hello."))
    return story(begin, middle, end)


def hide_and_seek(t):
    seeker, *hidden = t.friends(3)
    places = t.some(world.HIDING, len(hidden))
    end_of_count = t.pick(5, 7, 10)
    begin = paragraph(f"{listed([child.name for child in [seeker, *hidden]])} played hide and seek.",
                      f"{seeker.name} closed {seeker.his} eyes and counted to {number(end_of_count)}.",
                      f'"{upper(", ".join(world.NUMBERS[1 : end_of_count + 1]))}! I am coming!"')
    hide = paragraph(*(f"{child.name} hid {place}." for child, place in zip(hidden, places)))
    order = t.some(list(zip(hidden, places)), len(hidden))
    find = paragraph(*(f"{t.pick('First', 'Soon')} {seeker.he} looked {place} and found {child.name}." if index == 0 else
                       f"Then {seeker.he} looked {place} and found {child.name}." for index, (child, place) in enumerate(order)))
    last = order[-1][0]
    end = paragraph(f'"I was the last!" {t.pick("laughed", "cried", "said")} {last.name}.',
                    t.pick(f"Then it was {last.his} turn to count.", "Then Mother called them in for supper."))
    return story(begin, hide, find, end)


def noise(t):
    child = t.child()
    sound, source = t.one(world.NOISES)
    begin = paragraph(t.introduction(child), t.pick(f"In the middle of the night {child.name} woke up.", f"{child.name} lay in bed and could not sleep."),
                      f"{upper(sound)}! What was that?",
                      t.pick(f"{child.He} pulled the blanket over {child.his} head.", f"{child.His} heart went fast."))
    middle = paragraph(f'"{t.pick("Is it a ghost", "Is it a giant", "Is it a thief")}?" {child.he} whispered.',
                       f"Then {child.he} took {child.his} lamp and went to look.",
                       f"{upper(sound)}! There it was again.")
    end = paragraph(f"But it was only {source}.",
                    t.pick(f'"So it was you!" laughed {child.name}.', f"{child.name} laughed at {child.his} own fear."),
                    t.pick(f"{child.He} went back to bed and slept until morning.", f"Soon {child.he} was fast asleep."))
    return story(begin, middle, end)


def letter(t):
    writer, reader = t.friends()
    day = t.number(0, 5)
    plan = t.pick("come to my party", "go fishing with me", "help me build a tree house", "fly a kite with me", "bake a cake with me",
                  "look at the baby rabbits", "sleep in a tent with me")
    bring = t.pick("a warm coat", "a lamp", "a big spoon", "your drum", "a blanket", "some bread", "your little brother")
    begin = paragraph(f"{writer.name} wrote a letter to {reader.name}.",
                      f'"Dear {reader.name}, will you {plan} on {world.DAYS[day + 1]}? Please bring {bring}. Your friend {writer.name}."')
    middle = paragraph(t.pick(f"The postman took the letter and carried it to {reader.name}.",
                              f"A white pigeon carried the letter to {reader.name}."),
                       f"{reader.name} read it {t.pick('twice', 'with a smile', 'aloud')} and wrote back.",
                       f'"Dear {writer.name}, yes, I will come on {world.DAYS[day + 1]}. Your friend {reader.name}."')
    mine = bring.replace("your", reader.his)
    end = paragraph(f"On {world.DAYS[day]} {writer.name} could hardly wait.",
                    f"On {world.DAYS[day + 1]} there was a knock at the door.",
                    f"It was {reader.name}, who had brought {mine}.", t.cheer(reader))
    return story(begin, middle, end)


def good_night(t):
    child = t.child()
    animals = t.some(world.ANIMALS, 3)
    lines = [f"The {animal.name} slept {animal.home}." for animal in animals]
    begin = paragraph(t.pick("The sun went down behind the hills.", "The moon came up over the village.", "It was late, and the stars were out."),
                      *lines)
    middle = paragraph(f"No more {animals[0].sound}, no more {animals[1].sound}, no more {animals[2].sound}.",
                       t.pick("All was still.", "The whole world was quiet."))
    end = paragraph(f"Only {child.name} was awake.",
                    t.pick(f'"Good night, {animals[0].name}, {animals[1].name} and {animals[2].name}," {child.he} said.',
                           f"Mother sang {child.him} a song."),
                    t.pick(f"Then {child.he} closed {child.his} eyes and slept too.", f"And then {child.name} was asleep."))
    return story(begin, middle, end)


def quarrel(t):
    first, second = t.friends()
    thing = t.pick("swing", "sled", "drum", "kite", "big chair", "wooden horse")
    begin = paragraph(f"{first.name} and {second.name} both wanted the {thing}.",
                      f'"It is mine!" said {first.name}.', f'"No, it is mine!" said {second.name}.',
                      t.pick("They pulled and pulled.", "They did not speak for an hour."))
    middle = paragraph(t.pick(f'"I am sorry," said {first.name} at last.', f'"Let us not fight," said {first.name} at last.'),
                       f'"You may have the {thing} in the morning, and I will have it in the evening."',
                       f'"{t.pick("Good", "Yes", "That is fair")}," said {second.name}.')
    end = paragraph(f"So {second.name} had the {thing} in the morning, and {first.name} had it in the evening.",
                    t.pick("But soon they found that it was more fun together.", "And both were happy."), t.farewell(first, second))
    return story(begin, middle, end)


def dream(t):
    child = t.child()
    animal = world.ANIMAL[child.pet]
    place = t.pick("the moon", "a cloud", "an island", "the top of a mountain", "the bottom of the sea")
    colour = child.colour
    begin = paragraph(f"{t.pick('Last night', 'One night')} {child.name} had a dream.",
                      f"In the dream {child.he} rode on a giant {animal.name} to {place}.")
    middle = paragraph(f"There everything was {colour}: the trees were {colour}, the houses were {colour}, and even the {t.pick('bread', 'rain', 'milk')} was {colour}.",
                       f'"{upper(animal.sound)}!" said the giant {animal.name}. "{t.pick("Do you like it here", "Shall we stay", "Are you hungry")}?"')
    end = paragraph(t.pick(f'"I like it, but I want to go home," said {child.name}.', f'"It is lovely, but I miss my bed," said {child.name}.'),
                    f"Then {child.he} woke up, and there on the pillow lay {a(colour)} feather.")
    return story(begin, middle, end)


STORIES = [trouble, hide_and_seek, noise, letter, good_night, quarrel, dream]
