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
        """Check whether the server is ready; does not wait, and does not wake a sleeping model."""
        return await self.transport.run(server.health(self.settings))

    async def wait_until_ready(self, timeout: float | None = None) -> Health:
        """Wait while connections are refused or the model loads; raise any other failure at once.

        Args:
            timeout: Seconds; None uses `load_timeout`.

        Raises:
            ConnectionFailedError: If nothing is listening at the timeout.
            ServerLoadingError: If the model is still loading at the timeout.
        """
        return await self.transport.run(server.wait_until_ready(self.settings, timeout))

    async def models(self, *, reload: bool = False) -> list[ModelCard]:
        """List the server's models; a router also lists those that are not loaded.

        With `reload`, a router first reads its directory or preset file again and unloads models that are gone or
        changed (b11549).
        """
        return await self.transport.run(server.models(self.settings, reload))

    async def model_name(self) -> str:
        """Return the model of the settings, else a loaded model of the server, else its first model."""
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
        """Erase a slot's cache, but not its copy in the RAM cache; requires `--slot-save-path` (b11434)."""
        return await self.transport.run(server.slot_action(self.settings, id_slot, "erase", None, model))

    async def lora_adapters(self, model: str | None = None) -> list[LoraAdapter]:
        """List the server's loaded LoRA adapters."""
        return await self.transport.run(lora.lora_adapters(self.settings, model))

    async def set_lora_adapters(self, scales: Mapping[Any, float]) -> None:
        """Set the default scale of adapters by name or ID; others get 0."""
        await self.transport.run(server.set_lora_adapters(self.settings, scales))

    async def metrics(self, model: str | None = None) -> Metrics:
        """Return the server's counters and gauges; requires `--metrics`."""
        return await self.transport.run(server.metrics(self.settings, model))

    async def running_models(self) -> list[ModelCard]:
        """List the loaded and loading models of a router or llama-swap; other servers return all models."""
        return await self.transport.run(router.running_models(self.settings))

    async def load_model(self, model: str, timeout: float | None = None) -> ModelCard:
        """Load a model of a router or llama-swap and wait for it; reports to `on_progress`.

        Args:
            model: Name or alias.
            timeout: Seconds; None uses `load_timeout`.

        Raises:
            ServerFaultError: As soon as loading fails.
            NotSupportedError: If the server has only one model.
        """
        return await self.transport.run(router.load_model(self.settings, model, timeout))

    async def unload_model(self, model: str) -> None:
        """Unload a model of a router or llama-swap, and wait until it is done."""
        await self.transport.run(router.unload_model(self.settings, model))

    async def download_model(self, model: str) -> None:
        """Start a router's download of a model such as `user/repo:Q4_K_M`; `watch_models` reports progress.

        Failed downloads are reported like successful ones (b11434): check for the model in `models()`.
        """
        await self.transport.run(router.download_model(self.settings, model))

    async def delete_model(self, model: str) -> None:
        """Delete a model downloaded by a router from its disk; raises `ServerFaultError` for other models."""
        await self.transport.run(router.delete_model(self.settings, model))

    def watch_models(self) -> AsyncIterator[ModelEvent]:
        """Stream the model events of a router or llama-swap until the iterator is closed."""
        return self.transport.stream(router.watch_models(self.settings))

    # -- the prompt cache

    async def prewarm(self, request: ChatRequest) -> PromptRead:
        """Load a prompt into the server's cache ahead of time; generates one token.

        Later prompts with the same beginning reuse it. Pass the system message and the tools of an agent.

        Args:
            request: Messages and tools; a short user message is added if the messages do not end with one.
                `chat_template_kwargs` and similar fields should be those of the later requests.
        """
        return await self.transport.run(slots.prewarm(self.settings, request))

    async def save_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Process a prompt in a slot and save the slot's cache to a file, for use after a restart of the server.

        For experts: the slot's previous content is lost, and naming a slot has the risk described at `id_slot`.

        Args:
            request: As in `prewarm`.
            filename: A plain file name in the server's `--slot-save-path`.
            id_slot: The slot; requests of this process wait for it, those of other processes can't.

        Raises:
            NotSupportedError: If the server has no `--slot-save-path`.
            BadRequestError: If the file contains less than the prompt.
        """
        return await self.transport.run(slots.save_prompt(self.settings, request, filename, id_slot))

    async def restore_prompt(self, request: ChatRequest, filename: str, *, id_slot: int = 0) -> SlotPrompt:
        """Restore a slot's cache from a file, and verify that a prompt reuses it.

        For experts, like `save_prompt`.

        Args:
            request: The prompt to reuse the cache, as in `prewarm`; it may continue the saved one.
            filename: A file from `save_prompt` or `save_slot` with the same model and slot layout (b11434).
            id_slot: The slot, not necessarily the saved one.

        Raises:
            BadRequestError: If the file can't be restored, or the prompt can reuse less than half of it.
        """
        return await self.transport.run(slots.restore_prompt(self.settings, request, filename, id_slot))
