"""From loose words to one concept: a lesion and its site, an adjective and its noun, heads shared across "and"."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.language.items import LIST_MARKS, Item
from medsegagent.language.mentions import Mention
from medsegagent.language.shared_heads import SharedHeads
from medsegagent.vocabulary import Vocabulary


class Composer:
    """Joins neighbouring mentions of one instruction."""

    def __init__(self, items: Sequence[Item], vocabulary: Vocabulary) -> None:
        self._items = items
        self._vocabulary = vocabulary

    def compose(self, mentions: list[Mention]) -> list[Mention]:
        """Sites joined to lesions and parts; adjectives that stand for their organ turned into it."""
        mentions = SharedHeads(self._items, self._vocabulary).complete(mentions)
        for step in (
            self._one_lesion,
            self._site_before,
            self._site_after,
            self._site_shared,
            self._adjective_with_noun,
        ):
            mentions = step(mentions)
        return mentions

    # ---- helpers

    def gap(self, left: Mention, right: Mention) -> Sequence[Item]:
        """The items between two mentions."""
        return self._items[left.last : right.first]

    def is_family(self, mention: Mention) -> bool:
        """A lesion or part of which it is not yet said where."""
        concept = self._vocabulary.concept(mention.id)
        anywhere = concept.kind == "lesion" or (concept.kind == "part" and concept.region == "whole_body")
        return anywhere and not concept.part_of

    def is_site(self, mention: Mention) -> bool:
        """Something that a lesion or a part can be of."""
        concept = self._vocabulary.concept(mention.id)
        composed = "." in mention.id
        return (
            not composed
            and concept.kind not in ("lesion", "device")
            and not (concept.kind == "part" and not concept.part_of)
        )

    def _plain(self, gap: Sequence[Item]) -> bool:
        return all(
            (item.has("filler", "side", "neutral", "whose") and not item.has("not"))
            or item.mark in ("-", "'")
            or item.word == "s"
            for item in gap
        )

    def _listed(self, gap: Sequence[Item]) -> bool:
        return (
            bool(gap)
            and len(gap) < 5
            and any(i.has("and", "or") or i.mark in LIST_MARKS for i in gap)
            and all(i.has("and", "or", "filler", "side", "all") or i.mark in LIST_MARKS or i.mark == "-" for i in gap)
        )

    def _sited(self, family: Mention, site: Mention) -> Mention:
        ids = (self.at(family.id, site.id),)
        first, last = min(family.first, site.first), max(family.last, site.last)
        return Mention(ids, first, last, family.side or site.side)

    def at(self, family: str, site: str) -> str:
        """The lesion at a site; a bleed "inside the skull" is in the brain, "whole-body tumours" are tumours."""
        usual = self._vocabulary.concept(family).default_site
        if site == "whole_body":
            return family
        if site == "neck":
            site = "head_and_neck"
        elif usual == "brain" and (site in ("skull", "head") or self._vocabulary.contains("brain", site)):
            site = "brain"
        return f"{family}.{site}"

    # ---- steps

    def _one_lesion(self, mentions: list[Mention]) -> list[Mention]:
        """As in "malignant focal lesions", "stroke, lesion mask": two words for one thing."""
        out: list[Mention] = []
        for mention in mentions:
            previous = out[-1] if out else None
            if (
                previous
                and self._is_said_again(mention, self.gap(previous, mention))
                and self._vocabulary.concept(previous.id).kind == "lesion"
            ):
                previous.last = mention.last
            elif previous and self._are_bad_nodes(previous, mention):
                mention.first = previous.first
                out[-1] = mention
            else:
                out.append(mention)
        return out

    def _is_said_again(self, lesion: Mention, gap: Sequence[Item]) -> bool:
        apposed = lesion.id == "lesion" and [item.mark for item in gap] == [","]
        return apposed or (not gap and lesion.id in ("lesion", "mass"))

    def _are_bad_nodes(self, adjective: Mention, nodes: Mention) -> bool:
        """As in "metastatic neck nodes": nodes in the vocabulary's lesions are diseased ones anyway."""
        nodal = nodes.id.startswith("nodal_metastasis")
        return nodal and adjective.id in ("metastasis", "tumor", "lesion") and adjective.last == nodes.first

    def _site_before(self, mentions: list[Mention]) -> list[Mention]:
        """As in "liver tumour", "renal cysts", "Leber-Metastasen"."""
        out: list[Mention] = []
        for mention in mentions:
            previous = out[-1] if out else None
            if (
                previous
                and self.is_family(mention)
                and self.is_site(previous)
                and self._plain(self.gap(previous, mention))
                and not self._clause_between(previous, mention)
            ):
                out[-1] = self._sited(mention, previous)
                self._spread_left(out)
            else:
                out.append(mention)
        return out

    def _clause_between(self, left: Mention, right: Mention) -> bool:
        return any(item.word in ("is", "are", "has", "have", "for", "on", "at") for item in self.gap(left, right))

    def _spread_left(self, out: list[Mention]) -> None:
        """As in "liver and kidney tumours": a plural head goes with every item of the list before it."""
        family = out[-1].id.partition(".")[0]
        for index in range(len(out) - 2, -1, -1):
            gap = self.gap(out[index], out[index + 1])
            bare = not any(
                item.word in ("the", "a", "der", "die", "das", "la", "el", "le") or item.has("side") for item in gap
            )
            joined = (
                self._listed(gap)
                and bare
                and self.is_site(out[index])
                and out[index].id != self._vocabulary.site(out[-1].id)
            )
            if (
                not joined
                or not (out[index].adjective or (self._is_plural(out[-1]) and not self._is_plural(out[index])))
                or self._vocabulary.concept(out[index].id).kind == "region"
            ):
                return
            out[index] = self._sited(Mention((family,), out[index].last, out[index].last), out[index])

    def _is_plural(self, mention: Mention) -> bool:
        word = self._items[mention.last - 1].word
        last = word if " " not in self._items[mention.last - 1].key else self._items[mention.last - 1].key
        return word.endswith("s") or word.endswith("en") or not last.isascii()

    def _site_after(self, mentions: list[Mention]) -> list[Mention]:
        """As in "tumour of the kidney", "quiste renal", "bleed in the brain"."""
        out: list[Mention] = []
        index = 0
        while index < len(mentions):
            mention = mentions[index]
            following = mentions[index + 1] if index + 1 < len(mentions) else None
            if following and self.is_family(mention) and self.is_site(following) and self._leads_to(mention, following):
                out.append(self._sited(mention, following))
                index += 2
                linked = any(item.has("of", "in", "from_") for item in self.gap(mention, following))
                if linked:
                    self._share_site(out, following)
                while (
                    linked
                    and index < len(mentions)
                    and self.is_site(mentions[index])
                    and self._listed(self.gap(mentions[index - 1], mentions[index]))
                    and self._vocabulary.concept(mention.id).kind == "lesion"
                    and not self._is_sited_family(mentions, index)
                ):
                    out.append(
                        self._sited(Mention(mention.ids, mentions[index].first, mentions[index].last), mentions[index])
                    )
                    index += 1
                continue
            out.append(mention)
            index += 1
        return out

    def _share_site(self, out: list[Mention], site: Mention) -> None:
        """As in "cysts and tumours of the kidney": lesions listed before the last one are there too."""
        for index in range(len(out) - 2, -1, -1):
            lesion = self._vocabulary.concept(out[index].id).kind == "lesion" and self.is_family(out[index])
            if not lesion or not self._listed(self._items[out[index].last : out[index + 1].first]):
                return
            out[index].ids, out[index].side = (self.at(out[index].id, site.id),), out[index].side or site.side

    def _is_sited_family(self, mentions: list[Mention], index: int) -> bool:
        return index + 1 < len(mentions) and self.is_family(mentions[index + 1])

    def _leads_to(self, family: Mention, site: Mention) -> bool:
        gap = self.gap(family, site)
        denied = family.first > 0 and self._items[family.first - 1].has("not")
        if denied and any(item.has("whose") for item in gap):
            return False  # "不含肿瘤的肝脏" is the liver
        if any(item.has("and", "or", "not", "near", "modality", "segment") or item.mark for item in gap):
            return False
        said = self._items[family.last - 1].key.rpartition(" ")[2]
        linked = family.id == "artery_of" or said in (
            "of",
            "around",
        )  # "arteries feeding the heart", "tip of the spleen"
        if linked or any(item.has("of", "in", "from_") for item in gap):
            return len(gap) < 6
        return not gap and (site.adjective or self._items[site.first].start - self._items[family.last - 1].end <= 1)

    def _site_shared(self, mentions: list[Mention]) -> list[Mention]:
        """As in "renal tumours and cysts", "liver and its lesions", "kidney with masses": the site stands before."""
        for index in range(1, len(mentions)):
            mention, previous = mentions[index], mentions[index - 1]
            if not self.is_family(mention) or self._vocabulary.concept(mention.id).kind != "lesion":
                continue
            gap = self.gap(previous, mention)
            joined = self._listed(gap) or any(
                item.has("with", "its", "not", "and") or item.mark in ("(", "+", "/", ":") for item in gap
            )
            if any(item.is_break for item in gap) or not joined or any(item.has("modality") for item in gap):
                continue
            site = self._vocabulary.site(previous.id) or (previous.id if self.is_site(previous) else "")
            concept = self._vocabulary.concept(site) if site else None
            if concept and concept.kind != "region":
                mention.ids = (f"{mention.id}.{site}",)
                mention.side = mention.side or previous.side
        return mentions

    def _adjective_with_noun(self, mentions: list[Mention]) -> list[Mention]:
        """As in "hepatic parenchyma" is the liver; an adjective alone only gives context."""
        for mention in mentions:
            if mention.adjective:
                follows = self._items[mention.last] if mention.last < len(self._items) else None
                noun = follows is not None and (follows.has("neutral") or follows.word in ("part", "portion"))
                mention.role = "target" if noun else "context"
        return mentions
