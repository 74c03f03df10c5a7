"""Stories about the world outside: weather, seeds, snow, roads, animals and the days of the week."""

import world
from teller import a, listed, number, paragraph, story, upper


def rain(t):
    child = t.child()
    sound = upper(world.ANIMAL[child.pet].sound)
    begin = paragraph(t.introduction(child), t.pick(f"One rainy {t.pick('morning', 'day', 'evening')}{t.pick('', ',')} {child.name} looked out of the window.",
                             f"{child.name} heard the rain on the roof."),
                      t.pick("Dark clouds hung over the village.", "The drops ran down the glass.", "The whole street was wet."),
                      f"{child.He} put on {child.his} {child.colour} {t.pick('coat', 'boots', 'hat')} and ran outside.")
    if child.pet in world.RAIN_LOVERS:
        middle = paragraph(f"{child.name} jumped into every puddle, and {child.his} {child.pet} jumped in too.",
                           t.pick(f'"{sound}!" said the {child.pet}, for {a(child.pet)} loves the rain.', f'"{sound}, {sound.lower()}!" said the {child.pet}.'))
    else:
        middle = paragraph(f"{child.name} jumped into every puddle, and {child.his} {child.pet} watched from the {t.pick('door', 'window')}.",
                           f'"{sound}!" said the {child.pet}, for {a(child.pet)} does not love the rain.')
    end = paragraph(f"When {child.he} came home, {child.his} {t.pick('socks were', 'hair was', 'feet were')} wet and cold.",
                    t.pick(f"{child.He} sat by the fire until {child.he} was warm and dry.",
                           f"Mother gave {child.him} a cup of hot tea, and soon {child.he} was warm and dry."),
                    t.maybe(t.pick("Then the sun came out, and there was a rainbow over the hills.",
                                   "At night the rain stopped, and the stars came out.")))
    return story(begin, middle, end)


def garden(t):
    child = t.child()
    plant, fruit, use = t.one(world.PLANTS)
    day = t.number(0, 4)
    begin = paragraph(t.pick(f"In spring {child.name} put {a(plant)} seed into the ground.",
                             f"{t.pick('Grandmother', 'Grandfather')} gave {child.name} {a(plant)} seed, and {child.he} put it into the ground."),
                      t.pick(f"{child.He} gave it water every day.", "The rain gave it water, and the sun kept it warm."))
    middle = paragraph(f"On {world.DAYS[day]} there was nothing to see.",
                       f"On {world.DAYS[day + 1]} there was still nothing to see.",
                       f"But on {world.DAYS[day + 2]} a tiny green leaf looked out of the earth.",
                       t.maybe(f'"Good morning, little {plant}!" said {child.name}.'))
    end = paragraph("All summer long the plant grew and grew.",
                    f"At last there {'were' if fruit[0:2] != 'a ' else 'was'} {fruit}.",
                    t.pick(f"{child.name} {use}.", f"{child.name} was proud and {use}."), t.cheer(child))
    return story(begin, middle, end)


def snowman(t):
    child, friend = t.friends()
    scarf, hat = child.colour, friend.colour
    nose = t.pick("a carrot", "a pine cone", "a stick")
    begin = paragraph(t.pick("In the night it had snowed.", "One winter morning the whole world was white."),
                      f"{child.name} and {friend.name} ran out and built a snowman.")
    middle = paragraph(f"They gave him {nose} for a nose and two stones for eyes.",
                       f"{child.name} gave him {a(scarf)} scarf, and {friend.name} gave him {a(hat)} hat.",
                       t.maybe(t.pick('"Now you will not be cold," they said.', '"He looks like the mayor!" they laughed.')))
    end = paragraph(t.pick("A week later the sun was warm, and the snowman began to melt.",
                           "But then spring came, and the snowman grew smaller and smaller."),
                    f"In the end only {nose}, two stones, {a(scarf)} scarf and {a(hat)} hat lay on the grass.",
                    t.pick('"Come back next winter!" called the children.',
                           f'"He has gone back to the clouds," said {friend.name}.'), t.farewell(child, friend))
    return story(begin, middle, end)


def there_and_back(t):
    child = t.child()
    road = t.some(world.ROADS, 3)
    goal = t.pick("Grandmother's house", "the sea", "the old castle", "the lighthouse", "the market in town", "the big oak")
    begin = paragraph(t.introduction(child), f"{child.name} wanted to go to {goal}.",
                      f"{child.He} went {road[0][0]}, {road[1][0]} and {road[2][0]}.",
                      t.pick("It was a long way.", f"{child.He} sang all the way.", f"{child.His} {child.pet} went with {child.him}."))
    middle = paragraph(f"At {goal} {child.he} {t.pick('rested in the shade', 'ate bread and cheese', 'looked around for a long time')}.",
                       t.pick("Then the sun was low, and it was time to go home.", f'"Now I must find the way back," said {child.name}.'))
    end = paragraph(f"So {child.he} went {road[2][1]}, {road[1][1]} and {road[0][1]}.",
                    t.pick("And there was the house with a light in the window.", f"And then {child.he} was home again."), t.cheer(child))
    return story(begin, middle, end)


def riddle(t):
    asker, guesser = t.friends()
    animal, wrong = t.some(world.ANIMALS, 2)
    first, second = animal.traits if t.number(0, 1) else animal.traits[::-1]
    begin = paragraph(t.pick(f'"I know a riddle," said {asker.name} to {guesser.name}.',
                             f"{asker.name} and {guesser.name} sat under a tree and told riddles.",
                             f'"Can you guess what I am?" {asker.name} asked {guesser.name}.'),
                      f'"{first}. {second}. I live {animal.home}, and I say {animal.sound}. What am I?"')
    guess = paragraph(f'"{upper(a(wrong.name))}?" asked {guesser.name}.',
                      f'"No," said {asker.name}. "{upper(a(wrong.name))} says {wrong.sound}."') if t.number(0, 1) else ""
    end = paragraph(f'"You are {a(animal.name)}!" {t.pick("said", "cried", "laughed")} {guesser.name}.',
                    t.pick(f'"Yes, that is right," said {asker.name}.',
                           f"{asker.name} laughed and clapped {asker.his} hands.",
                           f'"{upper(animal.sound)}, {animal.sound}!" answered {asker.name}.'), t.farewell(asker, guesser))
    return story(begin, guess, end)


def farm(t):
    child = t.child()
    animals = t.some(world.ANIMALS, 3)
    begin = paragraph(t.introduction(child), t.pick(f"Early in the morning {child.name} went to see the animals.",
                             f"{child.name} wanted to say good morning to everyone."))
    lines = [paragraph(f'"Good morning, {animal.name}," said {child.name}. "{upper(animal.sound)}!" said the {animal.name}, '
                       f"who lived {animal.home} and wanted {animal.food}.") for animal in animals]
    end = paragraph(t.pick(f"So {child.he} had talked to the {animals[0].name}, the {animals[1].name} and the {animals[2].name}.",
                           f"Then {child.he} brought {animals[0].food} to the {animals[0].name}, {animals[1].food} to the "
                           f"{animals[1].name} and {animals[2].food} to the {animals[2].name}."),
                    t.pick("What a good way to begin the day!", "Then it was time for breakfast."))
    return story(begin, *lines, end)


def sizes(t):
    while True:
        animals = sorted(t.some(world.ANIMALS, 3), key=lambda animal: animal.size)
        if animals[0].size < animals[1].size < animals[2].size:
            break
    small, middle, big = (animal.name for animal in animals)
    prize = t.pick("the small door", "the narrow bridge", "the hole in the fence")
    begin = paragraph(f"{upper(a(small))}, {a(middle)} and {a(big)} {t.pick('met on the road', 'stood in the meadow', 'met by the well')}.",
                      t.pick(f'"I am the biggest," said the {big}.', f'"Who is the biggest of us?" asked the {small}.'))
    talk = paragraph(f"The {big} was bigger than the {middle}, and the {middle} was bigger than the {small}.",
                     f"So the {big} was the biggest, and the {small} was the smallest.")
    end = t.pick(
        paragraph(f"But then they came to {prize}.", f"The {big} was too big, and the {middle} was too big, but the {small} went through.",
                  t.pick('"It is good to be small," ', '"Small is not bad at all," ') + f"said the {small}."),
        paragraph(f'"I can carry you both," said the {big}.',
                  f"So the {middle} sat on the {big}, and the {small} sat on the {middle}, and they went home together."))
    return story(begin, talk, end)


def week(t):
    child = t.child()
    start, count = t.number(0, 3), t.number(3, 4)
    chores = t.some(world.CHORES, count)
    begin = paragraph(t.introduction(child), t.pick(f"{child.name} had a busy week.", f"It was a good week for {child.name}.", f"{child.name} was never lazy."))
    lines = paragraph(*(f"On {world.DAYS[start + day]} {child.he} {chores[day]}." for day in range(count)))
    asked = t.number(0, count - 1)
    end = t.pick(
        paragraph(f'"What did you do on {world.DAYS[start + asked]}?" asked Grandfather.', f'"I {chores[asked]}," said {child.name}.'),
        paragraph(f"And on {world.DAYS[start + count] if start + count < 7 else world.DAYS[0]} {child.he} did nothing at all.",
                  t.pick(f"{child.He} lay in the grass and looked at the clouds.", f"{child.He} slept until noon.")))
    return story(begin, lines, end)


def hungry_hero(t):
    kind, home, food = t.one(world.HEROES)
    nature = t.one(world.NATURES)
    steps = t.some([("the cow", "grass"), ("the dog", "bones"), ("the duck", "bread"), ("the hen", "corn"), ("the horse", "oats"),
                    ("the sheep", "clover"), ("the goat", "thistles"), ("the pig", "turnips")], t.number(1, 2))
    begin = paragraph(f"Once there was {a(nature)} {kind} who lived in {a(home)}.",
                      f"{t.pick('One day', 'One morning', 'One evening')} the {kind} was hungry and went out to look for {food}.")
    lines = [paragraph(f'"Do you have any {food}?" the {kind} asked {who}.',
                       f'"No," said {who}, "I have only {what}."') for who, what in steps]
    giver = t.child()
    end = paragraph(f"At last the {kind} met {giver.name}, who had a whole basket of {food}.",
                    t.pick(f'"Help yourself," said {giver.name}.', f'"Eat with me," said {giver.name}.'),
                    t.pick(f"Then the {kind} went back to the {home} and slept well.",
                           f"From then on {giver.name} and the {kind} were good friends."))
    return story(begin, *lines, end)


STORIES = [rain, garden, snowman, there_and_back, riddle, farm, sizes, week, hungry_hero]
