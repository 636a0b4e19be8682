"""The demo model's text side: its tokenizer and chat template, and the prompts that it is trained on."""

from itertools import product

import numpy as np
from numpy.random import Generator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from ipcv.benchmark.questions import ask, names, plural
from ipcv.benchmark.reference_captions import with_article
from ipcv.benchmark.wordings import EVENTS, KINDS, NUMBERS, OPTIONS, WORDINGS, QuestionKind
from ipcv.world.drawing import SHAPES
from ipcv.world.scene import COLOURS, MOTIONS, SIZES, TAGS, Scene, Thing

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
Packed = list[tuple[int, int, int, int]]
UNKNOWN = "I only know coloured shapes that move."  # the answer to every question that is not about the world
SYSTEM = ("You are a helpful assistant.", "Answer in one word.", "You answer questions about a video.")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: every word of the world is one token, any other text falls back to pieces and bytes."""
    tokenizer = Tokenizer(BPE())
    words = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=1000,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=list(SPECIAL),
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> list[str]:
    """Every wording and answer of the world, upper and lower case at the start; codes are told letter by letter."""
    names = [*SHAPES, *(f"{colour} {noun}" for colour, noun in product(COLOURS, (*SHAPES, "object")))]
    places = [("left", "right of"), ("above", "below")]
    asked = [
        text.format(*words)
        for kind in KINDS
        for text in WORDINGS[kind]
        for name in names
        for words in (
            [(name, low, high, name) for low, high in places]
            if kind == "position"
            else [(event, name, name) for event in ("appears", "disappears")]
            if kind == "order"
            else [(f"{tag} tag",) for tag in TAGS]
            if kind == "reading"
            else [(with_article(name) if kind == "existence" else name,)]
        )
    ]
    asked += [f"How many {plural(shape)} are there? What colour does the {shape} turn? the tag" for shape in SHAPES]
    answers = [answer for options in OPTIONS.values() for answer in options] + [
        "left",
        "right",
        "above",
        "below",
        *EVENTS.values(),
    ]
    deeds = [*(f"moves {motion}" for motion in MOTIONS), "stays still", *(f"turns {colour}" for colour in COLOURS)]
    told = [
        f"{article} {size} {name} {deed} and {event}."
        for article, size, name, deed, event in product(
            ("A", "An"), SIZES, names, deeds, ("appears", "disappears", "bounces", "grows")
        )
    ]
    plain = [
        *asked,
        *answers,
        *(f" {answer}" for answer in answers),
        *told[::7],
        *(f" {text}" for text in told[::7]),
        *(f"A {tag} tag says X." for tag in TAGS),
        *(f"What {event}? {answer}." for event, answer in EVENTS.items() if event),
        *(f"there is no {name}. there are two {plural(shape)}." for name in names for shape in SHAPES),
        "How many objects do you see? Count the objects. Count the objects in the video.",
        UNKNOWN,
        *SYSTEM,
        "system\n",
        "user\n",
        "assistant\n",
        " color color",
    ]
    return [*plain, *(text.lower() for text in plain), *(text.upper()[:1] + text[1:] for text in plain)]


def prefix(tokenizer: PreTrainedTokenizerFast, visual: int, system: str | None) -> list[int]:
    """Token ids of a prompt up to its question, with `visual` places for visual tokens."""
    messages = [{"role": "system", "content": system}] if system else []
    text = tokenizer.apply_chat_template([*messages, {"role": "user", "content": [{"type": "video"}]}], tokenize=False)
    return tokenizer(text.removesuffix("<|im_end|>\n").replace("<|video_pad|>", "<|video_pad|>" * visual)).input_ids


def pack(tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> Packed:
    """Questions and answers one after the other: (token, which question from 1, place in it, label or -100).

    They share one video but do not see each other. The label stands at the token that has to predict it.
    """
    rows = []
    for number, (question, answer) in enumerate(pairs, 1):
        asked = tokenizer(f"{question}<|im_end|>\n<|im_start|>assistant\n").input_ids
        told = tokenizer(f"{answer}<|im_end|>").input_ids
        labels = [-100] * (len(asked) - 1) + told
        rows += [
            (token, number, i, label) for i, (token, label) in enumerate(zip(asked + told[:-1], labels, strict=True))
        ]
    return rows


def draw_pairs(scene: Scene, rng: Generator, count: int) -> list[tuple[str, str]]:
    """About `count` questions about a scene with answers, hard kinds first, now and then one that has none."""
    known = ask(scene, rng)
    told = known.pop()
    text = str(rng.choice(MORE_CAPTIONS)) if rng.random() < 0.3 else told.text
    picked = [(text, told.answer)]
    kinds: dict[QuestionKind, list[tuple[str, str]]] = {}
    for question in known:
        kinds.setdefault(question.kind, []).append((question.text, question.answer))
    for kind in HARD:
        picked += _some(kinds.pop(kind, []), 2, rng)
    for kind in rng.permutation(sorted(kinds))[: max(1, count - len(picked))]:
        picked += _some(kinds[kind], 1, rng)
    picked += _sides(scene, rng)
    chance = rng.random()
    if chance < 0.2:
        picked.append((_strange(rng), UNKNOWN))
    elif chance < 0.4:
        picked.append(_misled(scene, rng))
    return [(_careless(text, rng), answer) for text, answer in picked]


HARD: tuple[QuestionKind, ...] = ("order", "event", "position", "count", "reading")  # asked whenever there are any


def _some(pairs: list[tuple[str, str]], count: int, rng: Generator) -> list[tuple[str, str]]:
    """Up to `count` of `pairs`."""
    return [pairs[int(i)] for i in rng.permutation(len(pairs))[:count]]


OFF = 0.08  # of the frame from its middle, at least, where a side is asked for


def _sides(scene: Scene, rng: Generator) -> list[tuple[str, str]]:
    """On which side of the frame an object stays: the first step to comparing two of them."""
    found = []
    for thing in scene.things:
        called, times = names(thing, scene), scene.seen(thing)
        places = np.array([np.add(thing.path.at(time), scene.camera.at(time)) for time in times]).reshape(-1, 2) - 0.5
        for axis, (low, high) in enumerate((("left", "right"), ("above", "below"))):
            sides = {low if place < 0 else high for place in places[:, axis]}
            if called and len(sides) == 1 and abs(places[:, axis]).min() > OFF:
                found.append((f"Where is the {rng.choice(called)}, {low} or {high}?", sides.pop()))
    return _some(found, 2, rng)


MORE_CAPTIONS = (  # captions are asked for in more ways than the benchmark does
    "What happens in this video?",
    "Describe this video.",
    "Describe the clip.",
    "Describe what you see.",
    "Please describe the video.",
    "What is happening?",
    "What is in this clip?",
    "What can you see?",
    "What moves?",
)


def _misled(scene: Scene, rng: Generator) -> tuple[str, str]:
    """A question about an object that is not there or not the only one, or of a kind that is not known."""
    shape, colour = str(rng.choice(list(SHAPES))), str(rng.choice(list(COLOURS)))
    unknown = str(rng.choice(NOT_KNOWN)).format(shape=shape, colour=colour), UNKNOWN
    if rng.random() < 0.3:
        return unknown
    if not scene.tags and rng.random() < 0.3:
        return str(rng.choice(WORDINGS["reading"])).format("tag"), "there is no tag"
    kind = ("colour", "direction", "size", "event")[int(rng.integers(4))]
    if kind == "colour" or rng.random() < 0.5:
        name, same = shape, sum(thing.shape == shape for thing in scene.things)
    else:
        name, same = f"{colour} object", sum(colour in _colours(thing) for thing in scene.things)
        kind = "shape" if rng.random() < 0.3 else kind
    if same == 1:
        return unknown
    wording = (
        f"How many {plural(shape)} are there?" if same == 0 and rng.random() < 0.15 else str(rng.choice(WORDINGS[kind]))
    )
    name = shape if "How many" in wording else name
    if "How many" in wording and any(thing.shape == shape for thing in scene.things):
        return unknown
    return wording.format(name), f"there is no {name}" if same == 0 else f"there are {NUMBERS[same - 1]} {plural(name)}"


def _colours(thing: Thing) -> tuple[str, ...]:
    return (thing.colour, thing.event.colour) if thing.event else (thing.colour,)


NOT_KNOWN = (
    "Is the {shape} {colour}?",
    "How many {colour} objects are there?",
    "How fast is the {shape}?",
    "Where is the {shape}?",
    "Which object is {colour}?",
    "Is the {colour} object a {shape}?",
    "Why does the {shape} move?",
    "What is the {shape} made of?",
)


def _careless(text: str, rng: Generator) -> str:
    """The question as some people type it."""
    if rng.random() < 0.5:
        text = text.replace("coloured objects", "objects")
    if rng.random() < 0.25:
        text = text.replace("colour", "color")
    if rng.random() < 0.15:
        text = text.lower()
    return text[:-1] if rng.random() < 0.1 else text


STRANGE = (
    "What is the {} doing?",
    "Who is {}?",
    "Why is the {} {}?",
    "When did the {} {}?",
    "What {} is this?",
    "Where is the {}?",
    "Where was this {}?",
    "Which {} does the {} have?",
    "What shape is the {}?",
    "{}",
    "{} {} {}?",
    "How old is the {}?",
    "How many {} are there?",
    "What does the {} say?",
    "Describe the {}.",
    "What colour is the {}?",
    "Please {} the {}.",
    "Tell me about {}.",
    "Can you {}?",
    "Are you a {}?",
    "Hello {}",
    "Write a {} about {}.",
)


def _strange(rng: Generator) -> str:
    """A question about things that are not in the world: made-up words in everyday frames."""
    frame = str(rng.choice(STRANGE))
    return frame.format(*(_word(rng) for _ in range(frame.count("{}"))))


def _word(rng: Generator) -> str:
    """A made-up or an everyday word."""
    if rng.random() < 0.3:
        return str(rng.choice(EVERYDAY.split()))
    return "".join(rng.choice(list(letters)) for letters in ["bcdfghjklmnprstvwz", "aeiou"] * int(rng.integers(1, 4)))


EVERYDAY = (
    "person man woman dog cat car house tree weather music name time child story street city game ball food "
    "book phone text sign number animal bird people room table hand face poem happy running talking cooking "
    "playing driving "
)
