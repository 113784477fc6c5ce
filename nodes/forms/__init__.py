"""What an operator may ask for, validated field by field: each refusal is one sentence that says what to do instead."""

from .add_node import AddNodeForm
from .addresses import clean_address, clean_hostname
from .node import SwitchoverForm, UpdateNodeForm
from .service import ServiceSettingForm
from .service_log import LogFilterForm

__all__ = [
    "AddNodeForm",
    "LogFilterForm",
    "ServiceSettingForm",
    "SwitchoverForm",
    "UpdateNodeForm",
    "clean_address",
    "clean_hostname",
]
