"""A stand-in of ovsdb-server with ovs-vswitchd behind it: one interface, kept in a file, which follows at once."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

UUID = "0f9e1c3a-0000-4000-8000-000000000001"
EMPTY = ["set", []]


class Database:
    """Serves ``socket`` beside ``file`` until the process ends. Like the real one (seen with 3.1), a request that is
    taken back leaves the device's MTU as it was made."""

    def __init__(self, file: Path, name: str, mtu: int = 1500) -> None:
        self.file, self.name, self.count = file, name, 0
        self.write({"mtu": mtu, "mtu_request": EMPTY})
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def path(self) -> str:
        return f"{self.file.parent.parent}/db.sock"

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def write(self, row: dict[str, Any]) -> None:
        self.file.write_text(json.dumps(row))

    def _serve(self) -> None:
        while True:
            conn, _ = self.listener.accept()
            with conn:
                try:
                    asked = json.loads(conn.recv(65536))
                    results = [self._do(op) for op in asked["params"][1:]]
                    # Somebody else's message comes first, and the answer in two pieces (RFC 7047 section 4.1.11).
                    echo = json.dumps({"method": "echo", "params": [], "id": "echo"}).encode()
                    answer = json.dumps({"id": asked["id"], "result": results, "error": None}).encode()
                    conn.sendall(echo + answer[:7])
                    conn.sendall(answer[7:])
                except OSError:
                    continue  # whoever asked was killed

    def _do(self, op: dict[str, Any]) -> dict[str, Any]:
        if op["op"] == "select" and op["table"] == "Interface":
            row = {"_uuid": ["uuid", UUID], **self.read()}
            return {"rows": [row] if op["where"][0][2] == self.name else []}
        if op["op"] == "update":
            row = {**self.read(), **op["row"]}
            wanted = row["mtu_request"]
            self.write({**row, "mtu": wanted} if isinstance(wanted, int) else row)
            return {"count": 1}
        if op["op"] == "mutate":
            self.count += 1
            return {"count": 1}
        return {"rows": [{"next_cfg": self.count, "cur_cfg": self.count}]}
