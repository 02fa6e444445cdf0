"""Superclasses from a file, and what they mean afterwards."""

import keras
import numpy as np
import pytest
from conftest import tiny_googlenet

import keras_inception as ki

NAMES = ["ant", "bee", "cat"]


def test_each_class_gets_its_superclass_whatever_the_order(tmp_path):
    path = tmp_path / "superclasses.csv"
    # as a spreadsheet writes it: a mark at the start, carriage returns, spaces
    path.write_bytes(
        b"\xef\xbb\xbfclass,superclass\r\ncat, mammal\r\nbee,insect\r\n"
        b"ant,insect\r\n\r\n"
    )
    assert ki.read_superclasses(path, NAMES) == ["insect", "insect", "mammal"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "an empty file"),
        ("ant,insect", "must begin with the line 'class,superclass'"),
        ("class,superclass\nant", "Received: 'ant'"),
        ("class,superclass\nant,", "a class and its superclass"),
        ("class,superclass\nant,a\nant,b", "'ant' twice"),
        ("class,superclass\nant,a\nbee,a", "no line for 'cat'"),
        ("class,superclass\nant,a\nbee,a\ncat,b\ndog,b", "what is no class: 'dog'"),
    ],
)
def test_a_faulty_table_is_named(tmp_path, lines, message):
    path = tmp_path / "superclasses.csv"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        ki.read_superclasses(path, NAMES)


def test_outputs_know_what_their_columns_mean(tmp_path):
    head = ki.AuxiliaryHead("inception_4a", superclasses=["insect", "insect", "mammal"])
    model = tiny_googlenet(auxiliary=(head, "inception_4d"))
    assert model.output_class_names == {
        "main": None,
        "aux_4a": ["insect", "mammal"],
        "aux_4d": None,
    }
    model.class_names = NAMES
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.output_class_names == {
        "main": NAMES,
        "aux_4a": ["insect", "mammal"],
        "aux_4d": NAMES,
    }
    main = ki.detach_auxiliary(again)
    images = np.zeros((1, 64, 64, 3))
    assert main.predict(images, verbose=0).shape == (1, 3)
