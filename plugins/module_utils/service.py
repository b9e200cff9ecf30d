"""What the service modules share: options, the manager that they mean, output without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wideep.dynamo.plugins.module_utils.launch import secrets
from ansible_collections.wideep.dynamo.plugins.module_utils.status import resolve
from ansible_collections.wideep.dynamo.plugins.module_utils.supervisord import Supervisord
from ansible_collections.wideep.dynamo.plugins.module_utils.systemd import Systemd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.wideep.dynamo.plugins.module_utils.launch import Launch
    from ansible_collections.wideep.dynamo.plugins.module_utils.status import Manager

OPTIONS: dict[str, Any] = {
    "state_dir": {"type": "path", "required": True},
    "deployment": {"type": "str", "default": "wideep"},
    "manager": {"type": "str", "default": "auto", "choices": ["auto", "systemd", "supervisord"]},
}


class ServiceModule(AnsibleModule):
    """An Ansible module whose launches never show a secret: not in results, not in the system's log."""

    def __init__(self, options: Mapping[str, Any], **more: Any) -> None:
        AnsibleModule.__init__(self, {**OPTIONS, **options}, supports_check_mode=True, **more)
        self.hide(self.params.get("launches") or [])

    def _log_invocation(self) -> None:
        """Log no parameters: launches hold secrets. (The constructor's no_log yields to the task's.)"""

    def hide(self, launches: list[Launch]) -> None:
        self.no_log_values.update(secrets(launches))

    def manager(self) -> Manager:
        params = self.params
        state_dir = params["state_dir"]
        if resolve(params["manager"]) == "systemd":
            hardening = params.get("hardening", True)
            manager: Manager = Systemd(state_dir, params["deployment"], hardening)
        else:
            manager = Supervisord(state_dir, params.get("supervisord") or "")
        if "log_max_mb" in params:
            manager.log_max_mb, manager.log_backups = params["log_max_mb"], params["log_backups"]
        return manager

    def exit_json(self, **result: Any) -> NoReturn:
        super().exit_json(**result, invocation=self._invocation())

    def fail_json(self, msg: str, *, exception: BaseException | str | None = None, **result: Any) -> NoReturn:
        own = {} if exception is None else {"exception": exception}
        super().fail_json(msg, **own, **result, invocation=self._invocation())

    def _invocation(self) -> dict[str, Any]:
        """Name launches and programs instead of repeating them."""
        arguments = dict(self.params)
        if arguments.get("launches"):
            arguments["launches"] = [launch.get("name") for launch in arguments["launches"]]
        if arguments.get("programs"):
            arguments["programs"] = [program.get("path") for program in arguments["programs"]]
        return {"module_args": arguments}
