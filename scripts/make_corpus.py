#!/usr/bin/env python3
"""Writes the demo corpus: short stories of a small world, each made by a seeded grammar of this project.

    scripts/make_corpus.py [--stories 7000] [--seed 1] [--output data/demo]

train.jsonl and validation.jsonl get one story a line, as {"text": "..."}. No story is in the book twice, so the
validation stories are new to a model that was trained on the others. Python's standard library is enough.
"""

import argparse
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "corpus"))

import stories_of_friends  # noqa: E402
import stories_of_nature  # noqa: E402
import stories_of_things  # noqa: E402
from teller import Teller  # noqa: E402

KINDS = stories_of_things.STORIES + stories_of_nature.STORIES + stories_of_friends.STORIES
CHAPTER = 6  # stories about the same two friends
VALIDATION_PART = 30  # one story in so many


def book(count, seed):
    """`count` different stories in chapters about two friends each; every kind is told equally often."""
    teller = Teller(seed)
    stories = []
    told = set()
    while len(stories) < count:
        for index, kind in enumerate(teller.some(KINDS, len(KINDS))):
            if index % CHAPTER == 0:
                teller.begin_chapter()
            text = kind(teller)
            if text not in told:
                told.add(text)
                stories.append(text)
    return stories[:count]


def write(path, stories):
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in stories), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("data/demo"))
    options = parser.parse_args()

    stories = book(options.stories, options.seed)
    held_out = max(1, len(stories) // VALIDATION_PART)
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / "train.jsonl", stories[held_out:])
    write(options.output / "validation.jsonl", stories[:held_out])

    text = "\n".join(stories)
    sentences = set(re.findall(r"[^.!?\n]+[.!?]", text))
    words = set(re.findall(r"[a-z]+", text.lower()))
    print(f"{options.output}: {len(stories) - held_out} stories to train on, {held_out} to validate, {len(text)} characters, "
          f"{len(sentences)} different sentences, {len(words)} words")


if __name__ == "__main__":
    main()
