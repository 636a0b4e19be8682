"""Settings are written in one line and mean what they say."""

import re

import pytest

from ipcv import DTD, EVS, IPCV, Dart, FastV, Reused, ToMe, V2Drop, VidCom2
from ipcv.benchmark.settings import parse_settings


def parse(text):
    (setting,) = parse_settings(text)
    return setting


def test_dense_is_the_plain_model():
    setting = parse("dense")
    assert (setting.options.compressor, setting.options.pruner) == (None, None)
    assert (setting.frames, setting.pixels, setting.shown) == (1, 1, "frames")


@pytest.mark.parametrize(
    ("text", "compressor", "pruner"),
    [
        ("coverage", IPCV(), None),
        ("coverage@0.2:stabilize=all:select=uniform", IPCV(keep=0.2, select="uniform"), None),
        ("coverage:stabilizer=states:reuse=0", IPCV(stabilizer="states", reuse=0.0), None),
        (
            "coverage@0.2:stabilizer=neighbors:reuse=0.015",
            IPCV(keep=0.2, stabilizer="neighbors", reuse=0.015),
            None,
        ),
        ("fast", IPCV.preset("fast"), None),
        ("careful@0.6:reuse=0+dart", IPCV.preset("careful", keep=0.6, reuse=0.0), Dart()),
        ("paper", IPCV.paper(), None),
        ("paper@0.2", IPCV.paper(keep=0.2), None),
        ("paper@0.2:layer=4:stabilize=1", IPCV.paper(keep=0.2, layer=4, stabilize=1), None),
        ("dart@0.5", None, Dart(keep=0.5)),
        ("fastv@0.25:layer=2", None, FastV(keep=0.25, layer=2)),
        ("paper+dart", IPCV.paper(), Dart()),
        ("dart@0.3+paper@0.1", IPCV.paper(keep=0.1), Dart(keep=0.3)),
        ("tome@0.6", ToMe(keep=0.6), None),
        ("tome+v2drop", ToMe(), V2Drop()),
        ("v2drop@0.5/0.3/0", None, V2Drop(keep=(0.5, 0.3, 0))),
        ("v2drop@0.5:layers=2", None, V2Drop(keep=(0.5,), layers=(2,))),
        ("v2drop@0.5/0.3:layers=2/3", None, V2Drop(keep=(0.5, 0.3), layers=(2, 3))),
    ],
)
def test_methods_stand_for_their_classes(text, compressor, pruner):
    setting = parse(text)
    assert setting.name == text
    assert (setting.options.compressor, setting.options.pruner) == (compressor, pruner)


@pytest.mark.parametrize(
    ("text", "compressor", "reducer", "pruner"),
    [
        ("evs@0.3", None, EVS(keep=0.3), None),
        ("vidcom2", None, VidCom2(), None),
        ("dtd@0.3", None, DTD(keep=0.3), None),
        ("dtd:threshold=0.8", None, DTD(threshold=0.8), None),
        ("paper+evs@0.3+dart", IPCV.paper(), EVS(keep=0.3), Dart()),
        ("reused+coverage:reuse=0.03", IPCV(reuse=0.03), Reused(), None),
        ("coverage:reuse=0.03+reused", IPCV(reuse=0.03), Reused(), None),
    ],
)
def test_between_encoder_and_language_model_is_a_place_of_its_own(text, compressor, reducer, pruner):
    options = parse(text).options
    assert (options.compressor, options.reducer, options.pruner) == (compressor, reducer, pruner)


def test_what_is_shown_can_be_less_or_something_else():
    setting = parse("paper+frames@0.5+pixels@0.64")
    assert (setting.frames, setting.pixels, setting.options.compressor) == (0.5, 0.64, IPCV.paper())
    assert parse("grey").shown == "grey"
    assert parse("paper+file").shown == "file"
    assert parse("other+paper").shown == "other"


def test_settings_have_commas_between_them_and_keep_their_order():
    assert [setting.name for setting in parse_settings("dense, paper,dart@0.5")] == ["dense", "paper", "dart@0.5"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("papre", "^'papre' is not known (did you mean 'paper'?); known: dense, coverage, paper, tome, evs"),
        (
            "coverge@0.2",
            "^'coverge' in the setting 'coverge@0.2' is not known (did you mean 'coverage'?); known: dense",
        ),
        ("quick", "^'quick' is not known; known: dense"),
        ("dense,,paper", "^'' is not known; known: dense"),
        ("paper,dense,paper", "the setting 'paper' is there twice"),
        ("paper+dense", "two parts that exclude each other"),
        ("dart+fastv", "two parts that exclude each other"),
        ("paper+tome", "two parts that exclude each other"),
        ("evs+dtd", "two parts that exclude each other"),
        ("dense+evs", "two parts that exclude each other"),
        ("evs@0", "evs in the setting 'evs@0': EVS keep=0.0 must be more than 0"),
        ("tome:layer=2", "tome in the setting 'tome:layer=2': 'layer' is not known; known: keep"),
        ("dtd:threshold=2", "DTD threshold=2.0 must be from -1 to 1"),
        ("dtd@some", "'some' is not a number"),
        ("v2drop@0.5", "must have a share for each of its 3 layers"),
        ("v2drop:layers=1/x/3", "'x' is not a whole number"),
        ("grey+other", "two parts that exclude each other"),
        ("file+frames@0.5", "a file is read as a whole"),
        ("paper@much", "paper in the setting 'paper@much': 'much' is not a number"),
        ("paper@1.5", "paper in the setting 'paper@1.5': keep=1.5 must be more than 0 and at most 1"),
        ("paper:layer", "'layer' in the setting 'paper:layer' must be a field, once, and its value"),
        ("paper:depth=3", "paper in the setting 'paper:depth=3': 'depth' is not known; known: keep, quality, layer"),
        ("dart:method=3", "'method' is not known"),
        ("paper:layr=3", "'layr' is not known (did you mean 'layer'?); known: keep"),
        ("paper:layer=2.5", "'2.5' is not a whole number"),
        ("coverage:stabilizer=none", "stabilizer='none' is not known; known: "),
        ("coverage:reuse=2", "reuse=2.0 must be "),
        ("paper:select=most", "select='most' is not known"),
        ("frames", "frames in the setting 'frames': it takes a share and no more"),
        ("frames@0", "frames in the setting 'frames@0': 0.0 must be more than 0"),
        ("pixels@0.5:layer=2", "pixels in the setting"),
        ("dense@0.5", "dense in the setting 'dense@0.5': it takes no share"),
        ("dense+dart", "two parts that exclude each other"),
        ("paper@", "paper in the setting 'paper@': '' is not a number"),
        ("paper@0.2:keep=0.9", "'keep=0.9' in the setting 'paper@0.2:keep=0.9' must be a field, once"),
        ("paper:layer=2:layer=5", "'layer=5' in the setting"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(text, complaint):
    with pytest.raises(ValueError, match=re.sub(r"[()?]", r"\\\g<0>", complaint)):
        parse_settings(text)
