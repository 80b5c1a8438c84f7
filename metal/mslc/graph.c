/* What refers to what, by name. Names are a superset of the truth, which is what each use of this needs. */
#include "internal.h"

#include <stdlib.h>

void mslc_reach(const mslc_unit *unit, mslc_range range, bool *reached) {
    for (int32_t i = range.begin; i < range.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (t->kind != MSLC_IDENT)
            continue;
        for (int32_t e = unit->symbols.data[t->symbol].entity; e >= 0; e = unit->entities.data[e].next)
            if (!reached[e]) {
                reached[e] = true;
                mslc_reach(unit, unit->entities.data[e].range, reached);
            }
    }
}

static bool refers_to_meeting(const mslc_unit *unit, const mslc_entity *entity) {
    for (int32_t i = entity->range.begin; i < entity->range.end; i++) {
        const mslc_token *t = mslc_at(unit, i);
        if (t->kind == MSLC_IDENT && t->symbol != entity->symbol &&
            (unit->symbols.data[t->symbol].meets || unit->symbols.data[t->symbol].word == MSLC_W_MEETING))
            return true;
    }
    return false;
}

void mslc_find_meetings(mslc_unit *unit) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t e = 0; e < unit->entities.count; e++) {
            const mslc_entity *entity = &unit->entities.data[e];
            mslc_symbol *s = &unit->symbols.data[entity->symbol];
            if (!s->meets && s->word != MSLC_W_MEETING && refers_to_meeting(unit, entity))
                s->meets = changed = true;
        }
    }
}
