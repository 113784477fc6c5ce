"""What an operator may ask for, validated field by field: each refusal is one sentence that says what to do instead."""

from .add_node import AddNodeForm
from .addresses import clean_address, clean_hostname
from .backup import BackUpForm
from .data import ConfirmForm, DataPolicyForm, RebuildForm
from .node import LeaveForm, PauseForm, PolicyForm, SwitchoverForm, UpdateNodeForm
from .service import ServiceSettingForm

__all__ = [
    "AddNodeForm",
    "BackUpForm",
    "ConfirmForm",
    "DataPolicyForm",
    "LeaveForm",
    "PauseForm",
    "PolicyForm",
    "RebuildForm",
    "ServiceSettingForm",
    "SwitchoverForm",
    "UpdateNodeForm",
    "clean_address",
    "clean_hostname",
]
