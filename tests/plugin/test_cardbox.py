"""Card Box keeps the contract, against a server that refuses what Card Box refuses."""

from crmsync_cardbox import Cardbox

from crmsync.testing.contract import ConnectorContract
from crmsync.testing.fake import Sample
from crmsync.testing.http_fake import Reply, RowsFake

FIELDS = {name: {"type": "text", "writable": name != "added"} for name in ("name", "firm", "email", "added")}


class CardboxFake(RowsFake):
    sample = Sample("name", "firm", "email", read_only="added", refused=("email", "nowhere"), find_by="email")
    bearer = "cardbox-token-4711"
    blank = dict.fromkeys(FIELDS)

    def __init__(self):
        super().__init__()
        self.route("GET", "/fields", lambda call: Reply(200, {"fields": FIELDS}))
        self.route("GET", "/cards", lambda call: Reply(200, self._page(int(call.param("after")), call.param("since"))))
        self.route("PUT", "/cards", lambda call: Reply(200, {"rows": [self._put(row) for row in call.json()]}))
        self.route("POST", "/cards/find", lambda call: Reply(200, {"cards": self._find(call.json())}))

    def connect(self, *, budget=None):
        settings = Cardbox.Settings(token=self.bearer, base_url=self.url, timeout_seconds=0.4)
        return Cardbox(settings, self.around(FIELDS, budget))

    def _page(self, after, since):
        rows = sorted(self.rows.values(), key=lambda row: row["revision"])
        found = [row for row in rows if row["revision"] > after and row["changed"] >= since]
        more = len(found) > 100
        return {"cards": found[:100], "more": more, "revision": found[99]["revision"] if more else self.revision}

    def _find(self, asked):
        return [row for row in self.rows.values() if any(row[name] in asked[name] for name in asked)]

    def _put(self, row):
        key, asked = row["key"], {"id": [row["id"]]} if row["id"] else {"key": [row["key"]]}
        known = [found["id"] for found in self._find(asked)]
        if row["id"] and not known:
            return {"key": key, "status": 404}
        if "@" not in (row["fields"].get("email") or "@"):
            return {"key": key, "status": 422, "refused": ["email"]}
        id = known[0] if known else self.add(key, {})
        self.edit(id, {**row["fields"], "key": key})
        return {"key": key, "status": 200 if known else 201, "card": self.rows[id]}


class TestCardbox(ConnectorContract):
    def make_fake(self):
        return CardboxFake()
