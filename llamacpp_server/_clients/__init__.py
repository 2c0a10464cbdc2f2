"""The clients' methods by subject, each family awaited and blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .async_generation import AsyncGeneration as AsyncGeneration
    from .async_inputs import AsyncInputs as AsyncInputs
    from .async_management import AsyncManagement as AsyncManagement
    from .generation import Generation as Generation
    from .inputs import Inputs as Inputs
    from .management import Management as Management

__getattr__, __dir__ = lazy(
    __name__,
    {
        "async_generation": ("AsyncGeneration",),
        "async_inputs": ("AsyncInputs",),
        "async_management": ("AsyncManagement",),
        "generation": ("Generation",),
        "inputs": ("Inputs",),
        "management": ("Management",),
    },
)
