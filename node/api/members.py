"""Who belongs to the network, and what is proposed: members, proposals with their votes, and what happened to each."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from node.api.problems import not_found
from node.api.replies import reply, typed
from node.api.services import Services
from node.contracts.entries import load_member
from node.contracts.proposals import load_proposal
from node.execution.member_views import PAGE_LENGTH_MAX, list_members, list_proposals, show_member, show_proposal
from node.execution.trails import audit

# Governance is rare; what is older than this many lines of one trail stands in the blocks.
ENTRIES_MAX = 1000

Name = Annotated[str, Path(max_length=32, description="a member's name")]
ProposalId = Annotated[str, Path(max_length=64, description="typed id")]
Limit = Annotated[int, Query(ge=1, le=PAGE_LENGTH_MAX, description="how many at most")]


class Members:
    """The routes about members and proposals; all of them only read."""

    def __init__(self, services: Services) -> None:
        """Answer from a node's parts."""
        self._ledger = services.ledger
        self.router = APIRouter(tags=["members"])
        for path, handler in (
            ("/v1/members", self.members),
            ("/v1/members/{name}", self.member),
            ("/v1/proposals", self.proposals),
            ("/v1/proposals/{proposal}", self.proposal),
            ("/v1/audit/members/{name}", self.audit_member),
            ("/v1/audit/proposals/{proposal}", self.audit_proposal),
        ):
            self.router.add_api_route(path, handler, methods=["GET"])

    @property
    def _time_ms(self) -> int:
        return self._ledger.head.header.time_ms

    async def members(
        self,
        after: Annotated[str, Query(max_length=32, description="a name; those behind it follow")] = "",
        limit: Limit = PAGE_LENGTH_MAX,
    ) -> Response:
        """The present members by name, a page at a time."""
        head = self._ledger.head.header.height
        return reply({**list_members(self._ledger.state, after, limit), "height": head})

    async def member(self, name: Name) -> Response:
        """One member, also one that has been removed."""
        shown = show_member(self._ledger.state, name)
        if shown is None:
            raise not_found("member", "member.unknown")
        return reply(shown)

    async def proposals(
        self,
        before: Annotated[str, Query(max_length=64, description="a proposal; those made before it follow")] = "",
        limit: Limit = PAGE_LENGTH_MAX,
    ) -> Response:
        """Proposals with their votes, the newest first, a page at a time."""
        raw = typed("p", before, "before") if before else None
        if raw is not None and load_proposal(self._ledger.state, raw) is None:
            raise not_found("proposal", "proposal.not_found")
        return reply(list_proposals(self._ledger.state, self._time_ms, raw, limit))

    async def proposal(self, proposal: ProposalId) -> Response:
        """One proposal with its votes."""
        shown = show_proposal(self._ledger.state, typed("p", proposal, "proposal"), self._time_ms)
        if shown is None:
            raise not_found("proposal", "proposal.not_found")
        return reply(shown)

    async def audit_member(self, name: Name) -> Response:
        """What a member's organisation tried, and what was decided about the member, oldest first."""
        member = load_member(self._ledger.state, name)
        if member is None:
            raise not_found("member", "member.unknown")
        return self._trail(member.organisation_key)

    async def audit_proposal(self, proposal: ProposalId) -> Response:
        """What happened to a proposal, oldest first."""
        return self._trail(typed("p", proposal, "proposal"))

    def _trail(self, subject: bytes) -> Response:
        head = self._ledger.head.header.height
        return reply({"entries": list(audit(self._ledger, subject, head, limit=ENTRIES_MAX)), "height": head})
