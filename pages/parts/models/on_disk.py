"""What is on this machine: models and adapters with where they are, their size, when they were used, and a way to delete."""

from __future__ import annotations

import shutil
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lora_backend.formats import rough_size, when
from lora_backend.hub.cache import CachedRepository, cached_repositories, delete_cached
from lora_backend.hub.cache_place import hub_cache_of
from lora_backend.i18n import N_
from lora_backend.models.adapter_upload import delete_uploaded
from lora_backend.models.adapters_here import AdapterHere
from lora_backend.models.local import LocalModel
from lora_backend.preflight.weights_room import MemoryHere, memory_here, room_for, room_words
from pages.parts.job.downloaded import use_model
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown, bold, escape, joined
from pages.parts.shell.navigation import HOME, TRY, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.adapter_upload_field import adapter_upload
from pages.parts.widgets.adapters_listed import forget_adapters, listed_adapters
from pages.parts.widgets.empty_state import empty_state
from pages.parts.widgets.models_here import forget_models, found_models

MOST_SHOWN = 100
LINE_WIDTH = 640
"""Of what is said of a model, in pixels; beside it there is room for its buttons."""
KINDS = {"model": N_("model"), "adapter": N_("adapter"), "part": N_("incomplete")}


def show_models_here() -> None:
    """Models in the hub's cache and in folders, and how much room is left."""
    cached = cached_repositories(installation())
    folders = [model for model in found_models() if not model.is_cached]
    st.header(t(N_("On this machine")), anchor=False)
    if not cached and not folders:
        _nothing()
        return
    _say_disk(cached)
    memory = memory_here(installation())
    weights = {model.name: model for model in found_models()}
    with st.container(border=True, gap="small", key="list_models"):
        for repository in cached[:MOST_SHOWN]:
            _cached(repository, weights.get(repository.repo_id), memory)
        for model in folders[:MOST_SHOWN]:
            _folder(model, memory)
    if more := max(len(cached) - MOST_SHOWN, 0) + max(len(folders) - MOST_SHOWN, 0):
        st.caption(t(N_("{count} more are not shown."), count=more))


def show_uploaded_adapters() -> None:
    """Adapters that came through the browser, and the field for another."""
    st.header(t(N_("Uploaded adapters")), anchor=False)
    uploaded = [one for one in listed_adapters().values() if one.origin == "uploaded"]
    if not uploaded:
        st.caption(t(N_("None yet. You can verify, try and export an uploaded adapter just like one from a run.")))
    else:
        with st.container(border=True, gap="small", key="list_adapters"):
            for adapter in uploaded[:MOST_SHOWN]:
                _uploaded(adapter)
    adapter_upload("models_upload", lambda stored: None)


def _nothing() -> None:
    empty_state(
        "models",
        t(
            N_(
                "No models here yet. Look one up above and download it, or start the demo, which comes with a small one. Folders with config.json and safetensors below a model root show up here too."
            )
        ),
        lambda: st.page_link(HOME, label=t(N_("To the demo")), icon=":material/home:"),
    )


def _say_disk(cached: list[CachedRepository]) -> None:
    folder = hub_cache_of(installation())
    if not cached or not folder.is_dir():
        return
    used, free = sum(one.size_bytes for one in cached), shutil.disk_usage(folder).free
    st.caption(
        t(
            N_("The hub cache {folder} takes up {used}; {free} free on its disk."),
            folder=str(folder),
            used=rough_size(used),
            free=rough_size(free),
        )
    )


def _cached(repository: CachedRepository, whole: LocalModel | None, memory: MemoryHere) -> None:
    parts = [
        t(KINDS.get(repository.kind, KINDS["part"])),
        t(N_("hub cache")),
        escape(rough_size(repository.size_bytes)),
    ]
    if repository.partial_bytes:
        parts.append(t(N_("{size} of an unfinished download"), size=rough_size(repository.partial_bytes)))
    if repository.last_used:
        parts.append(t(N_("last used {time}"), time=when(repository.last_used)))
    if whole is not None:
        parts.append(
            t(
                N_("weights {size}: {room}"),
                size=rough_size(whole.size_bytes),
                room=room_words(room_for(whole.size_bytes, memory)),
            )
        )
    name = whole.name if whole is not None else None
    with _row(repository.repo_id):
        _line(repository.repo_id, parts)
        with _acts():
            if name is not None:
                use_model(name, f"use-{name}")
            _delete(repository)


def _folder(model: LocalModel, memory: MemoryHere) -> None:
    parts = [
        t(N_("model")),
        escape(str(model.folder)),
        t(
            N_("weights {size}: {room}"),
            size=rough_size(model.size_bytes),
            room=room_words(room_for(model.size_bytes, memory)),
        ),
    ]
    if used := _last_read(model.folder):
        parts.insert(2, t(N_("last used {time}"), time=when(used)))
    with _row(model.name):
        _line(model.folder.name, parts)
        with _acts():
            use_model(model.name, f"use-{model.name}")


def _uploaded(adapter: AdapterHere) -> None:
    with _row(adapter.folder.name):
        base = adapter.base_name
        _line(adapter.title, [t(N_("adapter of {model}"), model=base)] if base else [t(N_("adapter"))])
        with _acts():
            query = {addresses.ADAPTER: str(adapter.folder.relative_to(installation().workspace))}
            st.page_link(VERIFY, label=t(N_("Verify")), icon=":material/verified:", query_params=query)
            st.page_link(
                TRY, label=t(N_("Try it")), icon=":material/forum:", query_params={addresses.WITH: adapter.address}
            )
            with st.popover(t(N_("Delete")), icon=":material/delete:"):
                st.markdown(t(N_("Delete {name} for good? This cannot be undone."), name=adapter.title))
                st.button(
                    t(N_("Yes, delete it")),
                    type="primary",
                    key=f"delete-{adapter.folder.name}",
                    on_click=safely(_delete_uploaded),
                    args=(adapter.folder,),
                )


def _row(name: str) -> DeltaGenerator:
    """A place in the list: what it is at the left, what can be done with it at the right, or below it on a phone."""
    return st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small", key=f"here-{name}"
    )


def _acts() -> DeltaGenerator:
    return st.container(horizontal=True, vertical_alignment="center", width="content")


def _line(name: str, parts: list[Markdown]) -> None:
    with st.container(gap=None, width=LINE_WIDTH):
        st.markdown(bold(name))
        st.caption(joined(" · ", parts))


def _delete(repository: CachedRepository) -> None:
    with st.popover(t(N_("Delete")), icon=":material/delete:"):
        st.markdown(
            t(
                N_("Delete {model} from the cache? This frees {size}. You can download it again."),
                model=repository.repo_id,
                size=rough_size(repository.size_bytes),
            )
        )
        st.button(
            t(N_("Yes, delete it")),
            type="primary",
            key=f"delete-{repository.repo_id}",
            on_click=safely(_delete_cached),
            args=(repository.repo_id,),
        )


def _delete_cached(repo_id: str) -> None:
    freed = delete_cached(repo_id, installation())
    forget_models()
    forget_adapters()
    tell(t(N_("Deleted {model}; {size} freed."), model=repo_id, size=rough_size(freed)), ":material/delete:")


def _delete_uploaded(folder: Path) -> None:
    delete_uploaded(folder, installation())
    forget_adapters()
    tell(t(N_("Deleted {name}."), name=folder.name), ":material/delete:")


def _last_read(folder: Path) -> float | None:
    """When its weights were read last, as far as the disk notes it."""
    try:
        return max((path.stat().st_atime for path in folder.glob("*.safetensors")), default=None)
    except OSError:
        return None
