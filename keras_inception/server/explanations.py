"""Shows on the page where in a picture each output of a `.keras` file looks."""

import base64
import json
import threading
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_inception.activation_maps import Explainer
from keras_inception.data.pictures import as_decodable_bytes
from keras_inception.evaluation import overlay
from keras_inception.export.classifier import ModelClassifier
from keras_inception.server.limits import ServingError
from keras_inception.server.pictures import check_picture

_WAITING = 4  # explanations that are in progress or wait for their turn


class Explanations:
    """Explains pictures, one at a time.

    Args:
        model: A classifier of pictures: the served version before its export, with its
            heads.
        picture_pixels: Most pixels of a picture.

    Raises:
        ValueError: If an output of the model reads no feature map.
    """

    def __init__(self, model: keras.Model, picture_pixels: int):
        self._classifier = ModelClassifier(model)
        self._explainer = Explainer(model)
        self._names = getattr(model, "output_class_names", {})
        self._picture_pixels = picture_pixels
        self._turn = threading.Lock()
        self._slots = threading.Semaphore(_WAITING)

    def explain(self, contents: bytes) -> str:
        """Answers a picture file by JSON: for each output a class and a picture.

        A list of objects with `output`, `class`, `probability` and `png`, in base64:
        the square that the model takes with the output's map over it.

        Raises:
            ServingError: If it is not a picture, too large, or too many wait (503).
        """
        check_picture(contents, self._picture_pixels)
        if not self._slots.acquire(blocking=False):
            raise ServingError(f"{_WAITING} explanations are in progress", 503)
        try:
            with self._turn:
                return json.dumps(self._explain(contents))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            message = str(error).split("\n")[0]
            raise ServingError(f"The picture can't be explained: {message}") from None
        finally:
            self._slots.release()

    def _explain(self, contents: bytes) -> list[dict[str, Any]]:
        images = self._classifier.decode([as_decodable_bytes(contents)])
        pixels = np.clip(images[0], 0, 255).astype("uint8")
        answers = []
        for name, (maps, classes, probabilities) in self._explainer(images).items():
            names, best = self._names.get(name), int(classes[0])
            png = tf.io.encode_png(overlay(pixels, maps[0])).numpy()
            answers.append(
                {
                    "output": name,
                    "class": str(names[best] if names else best),
                    "probability": round(float(probabilities[0]), 4),
                    "png": base64.b64encode(png).decode(),
                }
            )
        return answers
