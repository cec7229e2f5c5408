"""Makes the automations of a file on Prefect's server, such as who hears of a night that went wrong.

    python -P -m flows.notify deployments/heartbeat.yaml
    python -P -m flows.notify deployments/notify.yaml --webhook URL --mail URL

Run once for each Prefect server, with PREFECT_API_URL; run again, it replaces what it made. Prefect keeps addresses as
its "blocks". An automation names a block by an id, which is not known before: the words `webhook` and `mail` stand for
it in the file.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

ID = "block_document_id"


def main(words: list[str] | None = None) -> None:
    """Make the blocks and the automations; prints what was made."""
    parser = argparse.ArgumentParser(prog="python -P -m flows.notify", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="automations: deployments/notify.yaml, heartbeat.yaml")
    parser.add_argument("--webhook", default="", metavar="URL", help="is sent JSON with `subject` and `text` by POST")
    parser.add_argument(
        "--mail",
        default="",
        metavar="URL",
        help="an address as Apprise writes it: mailtos://USER:PASSWORD@smtp.example.org?from=FROM&to=TO",
    )
    options = parser.parse_args(words)
    names = set_up(options.file, options.webhook, options.mail)
    if not names:
        parser.error(f"{options.file} needs --webhook, --mail or both")
    for name in names:
        print(f"made: {name}", file=sys.stderr)


def set_up(file: Path, webhook: str = "", mail: str = "") -> list[str]:
    """Make the blocks, and the automations of `file` with those actions whose block there is; returns their names."""
    from prefect.automations import Automation

    blocks = _blocks(webhook, mail)
    names = []
    for values in yaml.safe_load(file.read_text(encoding="utf-8"))["automations"]:
        automation = with_blocks(values, blocks)
        if automation["actions"]:
            _remove(values["name"])
            Automation.model_validate(automation).create()
            names.append(str(values["name"]))
    return names


def with_blocks(automation: Mapping[str, Any], blocks: Mapping[str, UUID]) -> dict[str, Any]:
    """`automation`, with ids of `blocks` for the words that stand for them, and without actions that have none."""
    actions = [action for action in automation["actions"] if action.get(ID) in (None, *blocks)]
    named = [action | ({ID: str(blocks[action[ID]])} if ID in action else {}) for action in actions]
    return {**automation, "actions": named}


def _blocks(webhook: str, mail: str) -> dict[str, UUID]:
    from prefect.blocks.notifications import SlackWebhook
    from prefect.blocks.webhook import Webhook

    made: dict[str, Any] = {}  # `save` waits when it is called from code that is not asynchronous
    if webhook:
        block = Webhook.model_validate({"url": webhook, "headers": {"Content-Type": "application/json"}})
        made["webhook"] = block.save("modic-webhook", overwrite=True)
    if mail:  # of Prefect's own blocks, those of chat programs alone take any address of Apprise
        made["mail"] = SlackWebhook.model_validate({"url": mail}).save("modic-mail", overwrite=True)
    return made


def _remove(name: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


if __name__ == "__main__":
    main()
