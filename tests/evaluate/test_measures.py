"""Tables of measures, which print the chance level beside each score that has one."""

from pvae_pyro.evaluate.measures import table_rows


def test_chance_levels_stand_beside_columns():
    found = {
        "z": {
            "a": {"purity": 0.75, "purity_chance": 0.25, "in_use": 3, "other": 0.5},
            "b": {"purity": None, "in_use": 4},
        }
    }
    assert table_rows(found, ("purity", "in_use")) == [
        ["z, a", "0.750 (chance 0.250)", 3],
        ["z, b", None, 4],
    ]
    probes = {"z": {"accuracy": 0.5, "chance": 0.125}}  # a column of its own
    assert table_rows(probes, ("accuracy", "chance")) == [["z", "0.500", "0.125"]]


def test_chance_levels_stand_beside_fractions_at_the_same_place():
    found = {
        "a->b": 0.9,
        "prior": {"a,b": 0.3, "b,c": 0.4},
        "diversity": {"a": {"slant": 0.5, "width": None}},
        "chance": {"a->b": 0.1, "prior": {"a,b": 0.2}},
        "seed": 0,
    }
    assert table_rows(found, ()) == [
        ["a->b", "0.900 (chance 0.100)"],
        ["prior, a,b", "0.300 (chance 0.200)"],
        ["prior, b,c", "0.400"],
        ["diversity, a, slant", "0.500"],
    ]
    assert table_rows({"reason": "none"}, ()) == []
