"""Methods whose map of a class depends on that class alone: what they must be, and whose an error is."""

import numpy as np
import pytest

from softlabels.errors import InputError, NotKeptError
from softlabels.methods.by_class import ClassInputs, ClassMap, MethodByClass


def test_a_method_by_class_has_one_implementation_and_is_no_distribution():
    with pytest.raises(TypeError, match="a probability is not computed class by class"):

        class Share(MethodByClass):
            """A share of a class."""

            name, title, source, version = "share", "share", "me", "1"

    with pytest.raises(TypeError, match="has a soft_map, expected class_map alone"):

        class Twice(MethodByClass):
            """A map that is made in two ways."""

            name, title, source, version, kind = "twice", "twice", "me", "1", "signed"

            def soft_map(self, inputs):
                return None


class Doubled(MethodByClass):
    """Twice the distances."""

    name, title, source, version, kind = "doubled", "doubled", "me", "1", "signed"

    @property
    def value_range(self):
        return None

    def class_map(self, inputs):
        if inputs.name == "wrong":
            raise InputError("class 'wrong': cannot be doubled")
        return ClassMap(2 * inputs.distance[0])


class DoubledInThreads(Doubled):
    """Twice the distances, of several classes at a time."""

    name, in_threads = "doubled_in_threads", True


def class_inputs(name, read_distance):
    return ClassInputs(name, np.ones((1, 1, 2), bool), (1.0, 1.0, 1.0), read_distance=read_distance)


@pytest.mark.parametrize("method", [Doubled(), DoubledInThreads()])
def test_an_error_of_reading_distances_is_not_the_methods(method):
    distance, failure = np.ones((1, 1, 1, 2), np.float32), NotKeptError("geols/distance: not kept")

    def fail():
        raise failure

    good = class_inputs("good", lambda: distance)
    assert [one.values.tolist() for one in method.compute_classes([good, good], 2)] == [[[[2.0, 2.0]]]] * 2
    with pytest.raises(NotKeptError) as caught:
        method.compute_classes([good, class_inputs("bad", fail)], 2)
    assert caught.value is failure
    with pytest.raises(InputError, match=f"^method {method.name}: class 'wrong': cannot be doubled$"):
        method.compute_classes([class_inputs("wrong", fail)], 2)
    with pytest.raises(InputError, match=f"^method {method.name}: distance: missing, and this method needs it$"):
        method.compute_classes([class_inputs("good", None)], 2)
