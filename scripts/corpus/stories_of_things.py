"""Stories about things: lost and found, counted, shared, painted, bought, opened, floated, cooked."""

import world
from teller import a, counted, listed, many, number, paragraph, story, the, upper, were


def lost_and_found(t):
    child = t.child()
    thing = t.one(list(world.LOST))
    colour = child.colour
    where, why = t.one(world.LOST[thing])
    (first, first_thing), (second, second_thing) = t.some(world.EMPTY_PLACES, 2)
    helper = t.helper()
    begin = t.pick(
        paragraph(t.introduction(child), f"One morning {child.name} could not find {child.his} {colour} {thing}.",
                  t.pick("It was gone.", f"{child.He} had played with it the day before, and now it was gone.")),
        paragraph(f"{child.name} had {a(colour)} {thing}.", f"{child.He} loved it more than anything else.",
                  "But one day it was gone."),
        paragraph(f'"Where is my {colour} {thing}?" cried {child.name}.', "It was not where it should be."))
    search = paragraph(f"First {child.he} looked {first}, but {child.he} found {first_thing}.",
                       f"Then {child.he} looked {second}, but {child.he} found {second_thing}.",
                       f'"Have you seen my {colour} {thing}?" {child.he} asked {helper}.',
                       t.pick(f'"No," said {helper}, "but I will help you look."',
                              f'"Look {where}," said {helper}.',
                              f'"Yes," said {helper}. "It is {where}."'))
    end = paragraph(t.pick(f"And there it was, {where}!", f"They found the {colour} {thing} {where}."),
                    f"{why}.",
                    t.pick(f'"{child.cheer}!" cried {child.name}.', f"{child.name} was so happy that {child.he} danced.",
                           f'"Thank you!" said {child.name} to {helper}.'),
                    t.maybe(t.pick(f"From that day on {child.he} took good care of the {thing}.",
                                   f"That night the {thing} slept beside {child.his} bed.")))
    return story(begin, search, end)


def adding(t):
    child, friend = t.friends()
    one, some = child.treasure
    had, more = t.number(1, 5), t.number(1, 3)
    total = had + more
    lost = t.number(1, total - 1)
    left = total - lost
    bag = t.pick("basket", "bag", "pocket")
    begin = paragraph(f"{child.name} had {many(had, one, some)} in {child.his} {bag}.",
                      t.pick(f"{friend.name} came by and gave {child.him} {many(more, one, some)}.",
                             f"On the path {child.he} found {number(more)} more."))
    count = paragraph(t.pick('"How many do I have now?"', '"Let me count them,"') + f" {t.pick('said', 'thought')} {child.name}.",
                      f'"{upper(counted(total))}. I have {number(total)} {some}!"')
    eaten = paragraph(f"{child.He} ate {many(lost, one, some)} on the way home.", f"Then there {were(left)} {number(left)} left.")
    fallen = paragraph(f"But the {bag} had a hole, and {many(lost, one, some)} fell out.", f"Then there {were(left)} {number(left)} left.")
    given = paragraph(f"{child.He} gave {many(lost, one, some)} to {friend.name}.",
                      f"Then {child.name} had {many(left, one, some)} left.")
    end = t.pick(given, eaten if some in world.EATEN else fallen)
    return story(begin, count, paragraph(end, t.farewell(child, friend)))


def sharing(t):
    friends = t.friends(t.number(2, 4))
    baker = t.one(world.GROWN_UPS)
    each = t.number(1, 12 // len(friends))
    total, one, some = each * len(friends), *t.pick(("cake", "cakes"), ("pancake", "pancakes"), ("bun", "buns"), ("cookie", "cookies"))
    names = listed([child.name for child in friends])
    begin = paragraph(f"{baker.name} baked {many(total, one, some)}.",
                      f"{names} came in and sat down at the table.",
                      t.maybe("The whole kitchen smelled of sugar and butter."))
    talk = paragraph(f'"There are {number(total)} {some} and {number(len(friends))} of you," said {baker.name}.',
                     '"How many does each of you get?"',
                     t.pick(f"{friends[0].name} thought for a while.", f"{friends[0].name} counted on {friends[0].his} fingers."),
                     f'"{upper(number(each))} for each of us!" said {friends[0].name}.')
    end = paragraph(t.pick(f"So each child ate {many(each, one, some)}.", f"And so they each got {many(each, one, some)}."),
                    t.pick("Not a crumb was left.", "The plate was empty, and all were happy.",
                           f'"They taste best when we share them," said {friends[1].name}.'))
    return story(begin, talk, end)


def painting(t):
    child, friend = t.friends()
    first, second, third, subjects = t.one(world.MIXTURES)
    subject = t.one(subjects)
    begin = paragraph(t.introduction(child), f"{child.name} wanted to paint {subject}.",
                      f"But {child.he} had no {third} paint.",
                      t.pick(f"{child.He} had only {first} and {second}.", f"In {child.his} box there were only {first} and {second}."))
    middle = paragraph(f'"What shall I do?" asked {child.name}.',
                       f'"Mix {first} and {second}," said {friend.name}.',
                       f"{child.name} put some {first} and some {second} on a plate and stirred.",
                       t.pick(f"Slowly it turned {third}.", f"Look! It was {third}."))
    end = paragraph(f"So {child.he} painted {subject}, and it was as {third} as can be.",
                    t.pick(f'"It is beautiful," said {friend.name}.', f"{friend.name} hung the picture on the wall.",
                           f"{child.He} gave the picture to {t.pick('Grandmother', 'Grandfather')}."), t.cheer(child))
    return story(begin, middle, end)


def market(t):
    child = t.child()
    ware, seller, price = t.one(world.WARES)
    coins = t.number(price + 1, 10)
    left = coins - price
    begin = paragraph(t.introduction(child), f"{child.name} went to the market with {number(coins)} coins in {child.his} pocket.",
                      f"{child.He} wanted to buy {ware}{t.pick('', f' for {child.his} mother', ' for Grandmother')}.")
    talk = paragraph(f'"How much is it?" {child.he} asked {seller}.',
                     f'"{upper(many(price, "coin", "coins"))}," said {seller}.',
                     f"{child.name} gave {many(price, 'coin', 'coins')} to {seller} and took {the(ware)}.")
    end = paragraph(f"Now {child.he} had {many(left, 'coin', 'coins')} left.",
                    t.pick(f"{child.He} put {'it' if left == 1 else 'them'} back into {child.his} pocket and went home singing.",
                           f"{child.He} carried {the(ware)} home with great care.",
                           f'"Come again!" called {seller}.'))
    return story(begin, talk, end)


def keys_and_box(t):
    child = t.child()
    right = child.colour
    colours = t.some([colour for colour in world.COLOURS if colour != right], 2)
    inside = t.pick("a silver bell", "an old map", "a letter from Grandfather", "a tiny music box", "a string of pearls",
                    "a golden ring", "a picture of a ship")
    begin = paragraph(t.pick(f"In the attic {child.name} found {a(right)} box.", f"Under the stairs {child.name} found {a(right)} box."),
                      "It was locked.",
                      f"Beside it lay three keys: {a(colours[0])} key, {a(colours[1])} key and {a(right)} key.")
    middle = paragraph(f"{child.He} tried the {colours[0]} key, but it did not fit.",
                       f"{child.He} tried the {colours[1]} key, but it did not fit.",
                       f"Then {child.he} tried the {right} key.",
                       t.pick("Click! The box was open.", "It turned, and the box was open."))
    end = paragraph(f"Inside there was {inside}.", t.cheer(child),
                    t.pick(f'"{upper(a(right))} key for {a(right)} box," said {child.name}. "I should have known!"',
                           f"{child.name} showed {the(inside)} to everyone in the house.",
                           f"{child.name} closed the {right} box again and kept the {right} key."))
    return story(begin, middle, end)


def boats(t):
    child, friend = t.friends()
    water = t.pick("pond", "stream", "lake")
    floating = t.one([row for row in world.BOATS if row[1]])[0]
    sinking = t.one([row for row in world.BOATS if not row[1]])[0]
    begin = paragraph(f"{child.name} and {friend.name} sat by the {water}.",
                      '"What floats, and what sinks?" they asked.' if t.number(0, 1) else '"Let us make a boat," they said.')
    middle = paragraph(f"{child.name} put {sinking} on the water.",
                       t.pick("Plop! It sank to the bottom.", "It sank at once."),
                       f"Then {friend.name} put {floating} on the water.",
                       t.pick("It floated!", "It did not sink. It floated."))
    heavy, light = the(sinking), the(floating)
    end = paragraph(f'"{upper(heavy)} is too heavy," said {child.name}, "but {light} is light."',
                    t.pick(f"{upper(light)} sailed across the {water} like a little ship.",
                           f"An ant climbed onto {light} and sailed away.",
                           f"They waved until {light} was out of sight."), t.farewell(child, friend))
    return story(begin, middle, end)


def soup(t):
    child = t.child()
    cook = t.one(world.GROWN_UPS)
    things = t.some(world.SOUP, t.number(2, 4))
    begin = paragraph(t.pick(f"{child.name} and {cook.name} wanted to cook soup.",
                             f'"Today we cook soup," said {cook.name} to {child.name}.'),
                      "They put a big pot of water on the fire.")
    steps = [f"{t.pick('First', 'To begin')} they put in the {things[0]}."]
    steps += [f"Then they put in the {thing}." for thing in things[1:-1]]
    steps += [f"Last of all they put in the {things[-1]}.", t.pick("The pot began to sing.", f"{child.name} stirred and stirred.")]
    end = paragraph(t.pick("Soon the soup was ready.", "After an hour the soup was done."),
                    f'"What is in it?" asked {t.pick("the neighbour", "the postman", "Mother", "Father")}.',
                    f'"{upper(listed(things))}!" said {child.name}.',
                    t.pick("It was the best soup of the year.", "They ate it all up, to the last spoon.", "Everyone asked for more."), t.cheer(child))
    return story(begin, paragraph(*steps), end)


STORIES = [lost_and_found, adding, sharing, painting, market, keys_and_box, boats, soup]
