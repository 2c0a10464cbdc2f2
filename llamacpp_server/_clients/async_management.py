"""Methods of the async client about the server itself; see `async_client.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from .._endpoints import (
    lora,
    router,
    server,
    slots,
)
from ..info import ServerInfo
from ..progress import ModelEvent
from ..requests import ChatRequest
from ..results import (
    Health,
    LoraAdapter,
    Metrics,
    ModelCard,
    PromptRead,
    ServerProps,
    SlotAction,
    SlotPrompt,
    SlotState,
)
from .async_base import AsyncMethods


class AsyncManagement(AsyncMethods):
    """The server, its models, its slots and its prompt cache."""

    # -- the server and its models

    async def health(self) -> Health:
        """Check whether the server can answer; does not wait, and does not wake a sleeping model."""
        return await self.transport.run(server.health(self.settings))

    async def wait_until_ready(self, timeout: float | None = None) -> Health:
        """Wait while connections are refused or the model loads; any other failure is raised at once.

        Args:
            timeout: Seconds; None takes `load_timeout` of the settings.

        Raises:
            ConnectionFailedError: When nothing listened until the timeout.
            ServerLoadingError: When the model was still loading at the timeout.
        """
        return await self.transport.run(server.wait_until_ready(self.settings, timeout))

    async def models(self, *, reload: bool = False) -> list[ModelCard]:
        """List the server's models; a router lists those that are not loaded too.

        With `reload` it reads its directory or preset file again first, and unloads what is gone or changed (b11549).
        """
        return await self.transport.run(server.models(self.settings, reload))

    async def model_name(self) -> str:
        """Return the model of the settings, else a loaded model of the server, else its first one."""
        return await self.transport.run(server.model_name(self.settings))

    async def props(self, model: str | None = None) -> ServerProps:
        """Return the server's properties. Never makes a router load a model; does not wake a sleeping one."""
        return await self.transport.run(server.props(self.settings, model))

    async def info(self, model: str | None = None) -> ServerInfo:
        """Return what the server and its model support. Never loads or wakes a model."""
        return await self.transport.run(server.info(self.settings, model))

    async def slots(self, model: str | None = None, *, fail_when_busy: bool = False) -> list[SlotState]:
        """List the slots with their state; raises `ServerBusyError` with `fail_when_busy`. Wakes a sleeping model."""
        return await self.transport.run(server.slots(self.settings, model, fail_when_busy))

    async def save_slot(self, id_slot: int, filename: str, model: str | None = None) -> SlotAction:
        """Save a slot's cache to a plain file name in the server's `--slot-save-path`."""
        return await self.transport.run(server.slot_action(self.settings, id_slot, "save", filename, model))

    async def restore_slot(self, id_slot: int, filename: str, model: str | None = None) -> SlotAction:
        """Restore a slot's cache; requires a server with the same model and slot layout."""
        return await self.transport.run(server.slot_action(self.settings, id_slot, "restore", filename, model))

    async def erase_slot(self, id_slot: int, model: str | None = None) -> SlotAction:
        """Erase a slot's cache, but not its copy in the RAM cache; requires `--slot-save-path` as well (b11434)."""
        return await self.transport.run(server.slot_action(self.settings, id_slot, "erase", None, model))

    async def lora_adapters(self, model: str | None = None) -> list[LoraAdapter]:
        """List the LoRA adapters that the server has loaded."""
        return await self.transport.run(lora.lora_adapters(self.settings, model))

    async def set_lora_adapters(self, scales: Mapping[Any, float]) -> None:
        """Set the default scale of each adapter, by name or id; those not named get 0."""
        await self.transport.run(server.set_lora_adapters(self.settings, scales))

    async def metrics(self, model: str | None = None) -> Metrics:
        """Return the server's counters and gauges; requires `--metrics`."""
        return await self.transport.run(server.metrics(self.settings, model))

    async def running_models(self) -> list[ModelCard]:
        """List the loaded and loading models of a router or llama-swap; of another server, all it has."""
        return await self.transport.run(router.running_models(self.settings))

    async def load_model(self, model: str, timeout: float | None = None) -> ModelCard:
        """Load a model of a router or llama-swap and wait for it; reports to `on_progress` of the settings.

        Args:
            model: Name or alias.
            timeout: Seconds; None takes `load_timeout` of the settings.

        Raises:
            ServerFaultError: When the load fails; raised at once.
            NotSupportedError: When the server has one model only.
        """
        return await self.transport.run(router.load_model(self.settings, model, timeout))

    async def unload_model(self, model: str) -> None:
        """Unload a model of a router or llama-swap, and wait until it is done."""
        await self.transport.run(router.unload_model(self.settings, model))

    async def download_model(self, model: str) -> None:
        """Start a router's download of a model such as `user/repo:Q4_K_M`; `watch_models` reports progress.

        A download that fails is told like one that ends well (b11434): look for the model in `models()`.
        """
        await self.transport.run(router.download_model(self.settings, model))

    async def delete_model(self, model: str) -> None:
        """Remove a model from disk that a router has downloaded; one that it did not is a `ServerFaultError`."""
        await self.transport.run(router.delete_model(self.settings, model))

    def watch_models(self) -> AsyncIterator[ModelEvent]:
        """Stream the model events of a router or llama-swap, without end; close it to stop."""
        return self.transport.stream(router.watch_models(self.settings))

    # -- the prompt cache

    async def prewarm(self, request: ChatRequest) -> PromptRead:
        """Load a prompt into the server's cache ahead of time; generates one token.

        Later prompts that begin the same start where this ended: give the system message and the tools of an agent.

        Args:
            request: Messages and tools; a short message of the user is added where the messages end in no question.
                `chat_template_kwargs` and the like should be those of the requests to come.
        """
        return await self.transport.run(slots.prewarm(self.settings, request))

    async def save_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Read a prompt into a slot and save the slot's cache to a file, which outlives the server.

        For experts: what else was in the slot is lost, and it names a slot, with the danger told at `id_slot`.

        Args:
            request: As in `prewarm`.
            filename: A plain name in the server's `--slot-save-path`.
            id_slot: The slot; requests of this process wait for it, those of others can't.

        Raises:
            NotSupportedError: When the server has no `--slot-save-path`.
            BadRequestError: When the file holds less than the prompt.
        """
        return await self.transport.run(slots.save_prompt(self.settings, request, filename, id_slot))

    async def restore_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Restore a slot's cache from a file, and verify that a prompt reuses it by reading it there.

        For experts, as `save_prompt` is.

        Args:
            request: The prompt that the slot is meant for, as in `prewarm`; it may go on where the saved one ended.
            filename: A file of `save_prompt` or `save_slot`, of the same model and slot layout (b11434).
            id_slot: The slot; another than the one that was saved will do.

        Raises:
            BadRequestError: When the file can't be restored, or the prompt can use less than half of it.
        """
        return await self.transport.run(slots.restore_prompt(self.settings, request, filename, id_slot))
