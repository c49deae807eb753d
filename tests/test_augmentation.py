"""The augmentation contract: names, what stands for several, and older indexes."""

import pytest

from softlabels.augmentation import ANY_AUGMENTATION, NOT_ELASTIC, RIGID, allowed_names, completed, expanded
from softlabels.errors import InputError


def test_affine_stands_for_its_three_parts_once():
    assert expanded(["rescale", "affine", "affine"]) == ("rescale", "rotation", "shear")
    assert expanded([]) == ()


def test_an_unknown_name_is_an_error_and_not_something_forbidden():
    with pytest.raises(InputError, match="got 'flips', expected some of flip, rot90, rotation, .*, elastic, affine"):
        expanded(["flips"])


@pytest.mark.parametrize("contract", [ANY_AUGMENTATION, NOT_ELASTIC, RIGID])
def test_what_a_contract_allows_expands_to_what_it_holds(contract):
    assert set(expanded(allowed_names(contract))) == {name for name, is_valid in contract.items() if is_valid}


@pytest.mark.parametrize("contract", [ANY_AUGMENTATION, NOT_ELASTIC, RIGID])
def test_an_older_index_means_what_the_method_means_now(contract):
    older = {name: contract[name] for name in ("flip", "rot90", "rescale", "elastic")}
    assert completed(older) == contract
    assert completed(contract) == contract
