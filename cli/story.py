"""The story that the demo tells, scene by scene, on a real network and real FHIR R4 resources."""

import shutil
import time
from pathlib import Path
from typing import Any

from cli.bench_people import Person, signed
from cli.client import Json, Node
from cli.cluster import Cluster, kill_node
from cli.errors import CliError, Exit
from cli.fhir_bundle import PatientBundle, Resource
from cli.story_cast import HOME_PHYSICIAN, PHYSICIAN, Cast, distinct
from cli.story_flow import Flow
from cli.story_stage import Stage, expect
from node.keys.keyfile import load_key_file
from storage.schema.calls import Grant, Period, Provision
from storage.schema.genesis import load_file


class Story:
    """Who plays, and what has happened so far."""

    def __init__(self, stage: Stage, cluster: Cluster, bundles: list[PatientBundle], cast: Cast) -> None:
        """Play on a running network; the first patient is the main one, held at the first hospital."""
        self.stage = stage
        self.cluster = cluster
        self.bundles = bundles
        self.cast = cast
        home_physician = bundles[0].physician or HOME_PHYSICIAN
        *self.names, self.home_physician = distinct([*(bundle.petname for bundle in bundles), home_physician])
        self.patient = self.names[0]
        self.first, self.second = cluster.places[0].name, cluster.places[1].name
        self.genesis = load_file((cluster.folder / "genesis.json").read_bytes())
        self.nodes = [Node(place.name, place.socket, 20.0) for place in cluster.places]
        self.records: dict[str, Resource] = {}
        self.readable = self.labelled = self.consent = self.read = ""
        self.other: str | None = None

    def tell(self) -> None:
        """Tell it all."""
        self.enrol()
        self.register_records()
        self.refuse_without_consent()
        self.grant_and_read()
        self.refuse_other_categories()
        self.refuse_forgeries()
        self.revoke()
        copy = self.kill_the_primary()
        self.find_a_flipped_byte(copy)
        self.show_the_trail()
        self.verify_a_receipt_elsewhere()
        self.verify_the_ledgers()

    def enrol(self) -> None:
        """People get keys of their own and are sponsored or enrolled."""
        self.stage.scene(f"People are enrolled: {len(self.names)} patients at {self.first}, two physicians")
        for name in self.names:
            self.stage.run("key", "new", name, "--no-passphrase", show=name == self.patient)
            self.stage.run("patient", "register", "--as", name, "--node", self.first, show=name == self.patient)
        for name, node in ((self.home_physician, self.first), (PHYSICIAN, self.second)):
            self.stage.run("key", "new", name, "--kind", "practitioner", "--no-passphrase", show=False)
            self.stage.run("practitioner", "enrol", name, "--role", "physician", "--node", node, show=name == PHYSICIAN)
        named = f"the Bundles name {self.home_physician}" if self.bundles[0].physician else "the Bundles name none"
        self.stage.say(f"{PHYSICIAN}, the physician at {self.second}, is invented; {named}.")

    def register_records(self) -> None:
        """Every resource is sealed at the first hospital and registered on the ledger."""
        self.stage.scene("Real resources are sealed at their hospital and registered on the ledger")
        for name, bundle in zip(self.names, self.bundles, strict=True):
            answer = self.stage.run(
                "record", "import", str(bundle.path.resolve()), "--patient", name, "--node", self.first
            )
            self.stage.say(f"{name}: {len(answer['records'])} records sealed")
            if name == self.patient:
                ids = [record["record"] for record in answer["records"]]
                self.records = dict(zip(ids, bundle.resources, strict=True))
        ids, cast = list(self.records), self.cast
        self.readable = ids[cast.readable]
        self.other = None if cast.other is None else ids[cast.other]
        self.labelled = self._add_labelled() if cast.labelled is None else ids[cast.labelled]

    def _add_labelled(self) -> str:
        label, path = self.cast.label, self.stage.folder / "labelled.json"
        path.write_bytes(self.records[self.readable].content)
        arguments = ("--patient", self.patient, "--category", self.cast.category, "--sensitivity", label)
        record: str = self.stage.run("record", "add", str(path), *arguments, "--node", self.first)["record"]
        self.stage.say(
            f"the label {label} is invented: no {self.cast.category} record of the Bundle has one of its own."
        )
        return record

    def refuse_without_consent(self) -> None:
        """Nothing is readable before the patient has said so."""
        self.stage.scene(f"{PHYSICIAN} at {self.second} asks without consent")
        self.stage.refused(*self._get(self.readable), exit_code=Exit.REFUSED, code="consent.denied")

    def grant_and_read(self) -> None:
        """A grant for treatment, of one category, for seven days; the result is read byte for byte."""
        self.stage.scene(f"{self.patient} grants, and {PHYSICIAN} reads")
        limits = ("--category", self.cast.category, "--except", self.cast.label, "--until", "7d")
        answer = self.stage.run(
            *("consent", "grant", "--as", self.patient, "--patient", self.patient, "--to", PHYSICIAN),
            *("--purpose", "TREAT", *limits, "--node", self.first),
        )
        self.consent = answer["consent"]
        out = self.stage.folder / "result.json"
        answer = self.stage.run(*self._get(self.readable))
        resource = self.records[self.readable]
        expect(out.read_bytes() == resource.content, "what was read is not what was sealed")
        self.read = answer["served"]
        self.stage.say(f"read, byte for byte: {resource.title} ({answer['bytes']} bytes, at height {answer['height']})")

    def refuse_other_categories(self) -> None:
        """What the grant does not cover stays shut."""
        self.stage.scene(f"Another category is refused, and so is a record labelled {self.cast.label}")
        if self.other is None:
            self.stage.say(f"these Bundles hold nothing of {self.patient} but {self.cast.category}.")
        else:
            self.stage.refused(*self._get(self.other), exit_code=Exit.REFUSED, code="consent.denied")
        self.stage.refused(*self._get(self.labelled), exit_code=Exit.REFUSED, code="consent.denied")

    def refuse_forgeries(self) -> None:
        """A grant in the patient's name, signed with another's key, handed in at every node."""
        self.stage.scene(f"{PHYSICIAN} forges a grant in the name of {self.patient}")
        forged = self._forged_grant()
        for node in self.nodes:
            try:
                node.post_msgpack("/v1/transactions", [forged], Json)
            except CliError as error:
                expect(error.code == "signature.invalid", f"refused with {error.code}")
                self.stage.say(f"{node.name} refuses it: {error.code}: {error.message}")
            else:
                expect(False, f"{node.name} took a forged grant")

    def _forged_grant(self) -> bytes:
        patient, forger = self._person(self.patient), self._person(PHYSICIAN)
        everything = Provision(
            "permit",
            Period(None, None),
            (forger.key,),
            (),
            (),
            ("read",),
            ("TREAT",),
            (),
            (),
            (),
            Period(None, None),
            (),
        )
        in_their_name = Person(forger.seed, patient.key, self.first)
        return signed(self.genesis.chain_id, in_their_name, "consent.grant", Grant(everything, None))

    def revoke(self) -> None:
        """From the block of the revocation on, nothing more is handed out."""
        self.stage.scene(f"{self.patient} revokes")
        self.stage.run("consent", "revoke", self.consent, "--as", self.patient, "--node", self.first)
        self.stage.refused(*self._get(self.readable), exit_code=Exit.REFUSED, code="consent.denied")

    def kill_the_primary(self) -> Path:
        """The primary dies while transactions flow; the others go on; it comes back and nothing is missing."""
        self.stage.scene("The primary is killed (kill -9) while transactions flow")
        flow = Flow(self.genesis, [self._person(name) for name in self.names], self.nodes)
        flow.start()
        time.sleep(2.0)
        victim = self.cluster.place(self.nodes[0].get("/v1/status", Json)["primary"])
        killed_at = time.monotonic()
        self.stage.say(
            f"killed {victim.name}, process {kill_node(victim)}, after {len(flow.acknowledged)} transactions"
        )
        before = len(flow.acknowledged)
        _until(lambda: len(flow.acknowledged) > before + 20, 20, "the others do not go on")
        self.stage.say(
            f"the others went on; {flow.last_acknowledged - killed_at:.1f} s after it, 20 more are committed"
        )
        copy = self.stage.folder / "copy"
        shutil.copytree(victim.home / "data" / "ledger", copy / "ledger")
        self.stage.run("testnet", "start", victim.name)
        time.sleep(1.0)
        acknowledged = flow.stop()
        self._compare(acknowledged)
        return copy

    def _compare(self, acknowledged: list[str]) -> None:
        _until(self._is_level, 20, "the nodes do not come to one height")
        for node in self.nodes:
            for tx_id in acknowledged:
                node.get(f"/v1/transactions/{tx_id}", Json)
        status = self.nodes[0].get("/v1/status", Json)
        self.stage.say(f"all {len(acknowledged)} acknowledged transactions stand on all {len(self.nodes)} nodes")
        self.stage.say(f"height {status['height']}, state root {status['state_root'][:16]}… everywhere")

    def _is_level(self) -> bool:
        statuses = [node.get("/v1/status", Json) for node in self.nodes]
        return len({(status["height"], status["state_root"]) for status in statuses}) == 1

    def find_a_flipped_byte(self, copy: Path) -> None:
        """One changed byte on a disk is found, and named."""
        self.stage.scene("One byte is flipped in a copy of a ledger")
        victim = max((copy / "ledger").glob("*.l*"), key=lambda path: path.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        genesis = str(self.cluster.folder / "genesis.json")
        arguments = ("ledger", "verify", "--data", str(copy), "--genesis", genesis)
        answer = self.stage.run(*arguments, expect=Exit.UNVERIFIED)
        bad = answer["first_bad"]
        height = "" if bad["height"] is None else f" of block {bad['height']}"
        self.stage.say(f"found: {bad['area']}{height}: {bad['why']}")

    def show_the_trail(self) -> None:
        """The patient sees who asked, who read, and what was refused."""
        self.stage.scene(f"{self.patient} looks at the trail")
        self.stage.show("audit", "patient", self.patient, "--node", self.first, "--without", "consents,records")

    def verify_a_receipt_elsewhere(self) -> None:
        """A receipt needs neither node nor network."""
        self.stage.scene("A receipt of the read is verified in an empty folder, without any node")
        empty = self.stage.folder / "empty"
        empty.mkdir()
        self.stage.run("receipt", "get", self.read, "--out", str(empty / "read.receipt"), "--node", self.second)
        shutil.copy(self.cluster.folder / "genesis.json", empty)
        answer = self.stage.run("receipt", "verify", "read.receipt", "--genesis", "genesis.json", cwd=empty)
        self.stage.say(f"valid: height {answer['height']}, {answer['time']}, signed by {', '.join(answer['signers'])}")
        content = bytearray((empty / "read.receipt").read_bytes())
        content[len(content) // 3] ^= 1
        (empty / "read.receipt").write_bytes(content)
        self.stage.refused(
            *("receipt", "verify", "read.receipt", "--genesis", "genesis.json"),
            exit_code=Exit.UNVERIFIED,
            code="receipt.invalid",
            cwd=empty,
        )

    def verify_the_ledgers(self) -> None:
        """Every node checks its whole ledger again, from genesis."""
        self.stage.scene("Every node verifies its whole ledger from genesis")
        for node in self.nodes:
            answer = self.stage.run("ledger", "verify", "--node", node.name, show=False)
            expect(answer["ok"], f"{node.name}: {answer}")
            self.stage.say(f"{node.name}: ok, {answer['blocks']} blocks")

    def _get(self, record: str) -> tuple[str, ...]:
        out = str(self.stage.folder / "result.json")
        return ("record", "get", record, "--as", PHYSICIAN, "--purpose", "TREAT", "--node", self.second, "--out", out)

    def _person(self, name: str) -> Person:
        file = load_key_file(self.cluster.folder / "wallet" / f"{name}.key")
        member = self.second if name == PHYSICIAN else self.first
        return Person(file.open_secrets(None)["signing"], file.public["signing"], member)


def _until(is_so: Any, timeout_s: float, words: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        expect(time.monotonic() < deadline, f"{words} within {timeout_s:.0f} s")
        time.sleep(0.1)
