from __future__ import annotations

from rmatk.data.formats import open_splits
from rmatk.scenes.photos import rendered_kinds, write_photos
from rmatk.scenes.split import HELD_OUT_KINDS


def test_either_half_has_kinds_that_pretraining_saw_and_kinds_that_it_did_not():
    kinds = rendered_kinds()
    assert len(set(kinds)) == 32
    assert set(HELD_OUT_KINDS) < set(kinds)
    for half in (kinds[:16], kinds[16:]):
        assert 4 <= len(set(half) & set(HELD_OUT_KINDS)) <= 12


def test_photos_are_the_same_each_time_and_differ_by_seed_and_part(tmp_path):
    first, again, other = (
        open_splits(write_photos(tmp_path / name, kinds=("bolt", "stop sign"), train=2, test=1, seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.train.class_names == ("bolt", "stop sign")
    pictures = [
        [file.read_bytes() for part in (data.train, data.test) for file in part.flat()[0]]
        for data in (first, again, other)
    ]
    assert pictures[0] == pictures[1]
    assert len({*pictures[0], *pictures[2]}) == 2 * 6
