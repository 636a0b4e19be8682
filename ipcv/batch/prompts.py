"""Ready-made prompts for captions, and the parser for the one that asks for JSON."""

import re

from pydantic import BaseModel, ConfigDict, ValidationError

DEFAULT_PROMPT = "Describe the video."
JSON = "json"


class Description(BaseModel):
    """The JSON object that the ready-made prompt `json` asks for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    caption: str  # one or two sentences
    objects: list[str]
    actions: list[str]
    setting: str  # where it takes place
    text: list[str]  # what can be read in the picture


READY_MADE = {
    "short": "Describe the video in one sentence.",
    "detailed": "Describe the video in detail: what can be seen, what happens and in which order, where, and any text.",
    "tags": "List up to ten tags for the video: single words or short phrases, separated by commas, nothing else.",
    JSON: "Describe the video as one JSON object and nothing else. Its keys: caption (one or two sentences), objects "
    "(list of names), actions (list of phrases), setting (where it takes place), text (list of what can be read).",
}
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def parse(answer: str) -> tuple[Description | None, str | None]:
    """The JSON object in an answer, also in a Markdown fence or between words; or `None` and what is wrong."""
    fenced = _FENCED.search(answer)
    text = fenced[1] if fenced else answer
    first, last = text.find("{"), text.rfind("}")
    if first < 0 or last < first:
        return None, "there is no JSON object in it"
    try:
        return Description.model_validate_json(text[first : last + 1]), None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, found["loc"]))
        return None, f"{where}: {found['msg']}" if where else found["msg"]


def second_try(problem: str) -> str:
    """The prompt that follows an answer with this problem."""
    return f"{READY_MADE[JSON]} An earlier answer was not valid ({problem}): write correct JSON."
