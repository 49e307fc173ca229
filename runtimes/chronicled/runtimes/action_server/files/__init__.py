"""Executors for files: read, write, edit, list, upload, download, and what git says of them.

Everything here is the standard library alone and needs no program of the image, but for `git`. What an action does runs
in a thread; each kind's code is imported when its first action comes, so that an idle server stays small.
"""

from chronicled.runtimes.action_server.files.executor import FileExecutor

__all__ = ["FileExecutor"]
