"""Superclasses: read from a file, kept in saved models, carried through a search."""

import unicodedata

import keras
import numpy as np
import pytest
from conftest import short_googlenet, small_pictures, small_supervised

import keras_inception as ki

NAMES = ["ant", "bee", "cat"]


def test_each_class_gets_its_superclass_in_any_order(tmp_path):
    path = tmp_path / "superclasses.csv"
    # as spreadsheets write it: a byte order mark, carriage returns, spaces
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
        ("class,superclass\nant,a\nbee,a\ncat,b\ndog,b", "unknown classes: 'dog'"),
        (f"class,superclass\nant,{'a' * 200_000}", "superclasses: it is not a CSV"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, lines, message):
    path = tmp_path / "superclasses.csv"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        ki.read_superclasses(path, NAMES)


def test_a_name_is_the_same_in_either_form_of_unicode(tmp_path):
    composed, decomposed = (unicodedata.normalize(f, "café") for f in ("NFC", "NFD"))
    path = tmp_path / "superclasses.csv"
    for in_file, of_class in ((composed, decomposed), (decomposed, composed)):
        path.write_text(f"class,superclass\nbar,a\n{in_file},b\n", encoding="utf-8")
        assert ki.read_superclasses(path, ["bar", of_class]) == ["a", "b"]


def test_superclasses_can_be_a_dict_by_class():
    """`tuple` of a dict would be the classes themselves, without a word."""
    head = ki.AuxiliaryHead("inception_4a", superclasses={2: "b", 0: "a", 1: "a"})
    assert head.superclasses == ("a", "a", "b")
    for wrong in ({1: "a", 2: "b"}, {"ant": "a", "bee": "b"}):
        with pytest.raises(ValueError, match="numbers of the classes as keys"):
            ki.AuxiliaryHead("inception_4a", superclasses=wrong)
    with pytest.raises(ValueError, match="at least two different ones"):
        ki.AuxiliaryHead("inception_4a", superclasses="ab")


def test_outputs_know_what_their_columns_mean(tmp_path):
    head = ki.AuxiliaryHead("inception_4a", superclasses=["insect", "insect", "mammal"])
    model = short_googlenet(auxiliary=(head, "inception_4d"))
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


@pytest.mark.slow
def test_superclasses_survive_tuning(tmp_path):
    """KerasTuner trains, saves and reloads a model with superclasses."""
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(hp):
        weight = hp.Float("weight", 0.1, 1.0)
        return small_supervised(["a", "a", "b"], loss_weights={"aux": weight})

    objective = keras_tuner.Objective("val_main_accuracy", "max")
    tuner = keras_tuner.RandomSearch(
        build, objective, max_trials=2, directory=tmp_path, project_name="p"
    )
    data = small_pictures()
    tuner.search(*data, validation_data=data, epochs=1, verbose=0)
    (model,) = tuner.get_best_models(1)
    assert model.output_class_names["aux"] == ["a", "b"]
    chosen = tuner.get_best_hyperparameters(1)[0].get("weight")
    assert float(model.auxiliary_weights["aux"]) == pytest.approx(chosen)
    score = tuner.oracle.get_best_trials(1)[0].score
    logs = model.evaluate(*data, verbose=0, return_dict=True)
    assert logs["main_accuracy"] == pytest.approx(score)
    assert model.predict(data[0], verbose=0)["aux"].shape == (12, 2)
