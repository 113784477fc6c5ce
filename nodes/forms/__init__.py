"""What an operator may ask for, validated field by field: each refusal is one sentence that says what to do instead."""

from .add_node import AddNodeForm
from .addresses import clean_address, clean_hostname
from .node import LeaveForm, PauseForm, PolicyForm, SwitchoverForm, UpdateNodeForm
from .service import ServiceSettingForm

__all__ = [
    "AddNodeForm",
    "LeaveForm",
    "PauseForm",
    "PolicyForm",
    "ServiceSettingForm",
    "SwitchoverForm",
    "UpdateNodeForm",
    "clean_address",
    "clean_hostname",
]
