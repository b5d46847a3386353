/* SPDX-License-Identifier: MIT */

/*
 * What a port is used for, in constant memory however many claims it had: their lives go into classes that are an
 * octave divided by 32 wide, so that the median is known to 3 %.
 */

#include "daemon/control/query_fold.h"
#include "daemon/control/query_ports.h"

#define OCTAVE_BITS 5u
#define CLASSES     ((64u - OCTAVE_BITS + 1u) << OCTAVE_BITS)

struct lives {
	struct port_story story;
	uint64_t closed;
	uint64_t in_class[CLASSES];
};

/* Below an octave's 32 classes, each microsecond is one. */
static size_t class_of(usec_t life)
{
	unsigned octave;

	if (life < 1u << OCTAVE_BITS)
		return (size_t)life;
	octave = 63u - (unsigned)__builtin_clzll(life) - OCTAVE_BITS;
	return ((size_t)(octave + 1) << OCTAVE_BITS) + (size_t)(life >> octave) -
	       (1u << OCTAVE_BITS);
}

/* The middle of a class. */
static usec_t life_of(size_t class)
{
	unsigned octave = (unsigned)(class >> OCTAVE_BITS);
	usec_t low;

	if (octave == 0)
		return class;
	low = ((class & ((1u << OCTAVE_BITS) - 1)) | 1u << OCTAVE_BITS) << (octave - 1);
	return low + ((UINT64_C(1) << (octave - 1)) >> 1);
}

static int take_life(void *context, const struct fold_row *row)
{
	struct lives *l = context;

	l->story.claims++;
	l->story.first = MIN(l->story.first, row->opened);
	if (row->closed == USEC_UNSET)
		return 0;
	l->closed++;
	l->in_class[class_of(usec_sub(row->closed, row->opened))]++;
	return 0;
}

int query_port_story(struct query *q, const struct question *question, struct port_story *ret)
{
	struct lives *l = calloc(1, sizeof(*l));
	uint64_t passed = 0;
	int r;

	if (!l)
		return -ENOMEM;
	l->story.first = l->story.median = USEC_UNSET;
	r = query_fold(q, question, false, take_life, l);
	for (size_t i = 0; i < CLASSES && l->story.median == USEC_UNSET && l->closed > 0; i++) {
		passed += l->in_class[i];
		if (passed * 2 >= l->closed)
			l->story.median = life_of(i);
	}
	if (r == 0)
		*ret = l->story;
	free(l);
	return r;
}

int query_programs(struct query *q, const struct question *question, uint64_t *ret_claims,
	uint64_t *ret_programs)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = sql_question(question, SQL_PROGRAMS);
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_question(statement, question, 0, WALL_FOREVER, &PLACE_START);
	r = query_step(statement);
	if (r < 0)
		return r;
	*ret_claims = (uint64_t)sqlite3_column_int64(statement, 0);
	*ret_programs = (uint64_t)sqlite3_column_int64(statement, 1);
	return 0;
}
