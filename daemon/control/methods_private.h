/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the methods share: a call in hand, and how it is answered. */

#include <jansson.h>

#include "common/varlink.h"
#include "daemon/control/coverage.h"
#include "daemon/control/methods.h"
#include "daemon/control/query_failures.h"
#include "daemon/control/query_flows.h"

#define SERVICE_INTERFACE "org.varlink.service"
#define LEDGER_INTERFACE  "org.portledger.ledger"

struct methods {
	struct link *link;
	struct query *query;
	const char *state_path;
	TAILQ_HEAD(followers, request) followers;
};

/* A stream, or one page, of claims. */
struct claims_stream {
	struct question question;
	struct place ahead; /* where reading goes on */
	struct place given; /* behind the last row that was given */
	struct rows rows;   /* read, from `next` on not given yet */
	size_t next;
	uint64_t left; /* of the limit; UINT64_MAX: there is none */
	bool placed;   /* `ahead` and `given` are where the answer begins */
	bool ended;    /* all is read */
};

/* Released claims, in the order of release. */
struct released_stream {
	struct filter filter;
	struct release_place ahead; /* where reading goes on */
	struct release_place given; /* behind the last row that was given */
	struct rows rows;           /* read, from `next` on not given yet */
	size_t next;
	bool ended; /* all is read */
};

/* A stream, or one page, of failures. */
struct failures_stream {
	struct filter filter;
	struct failure_place place; /* behind the last row that was given */
	uint64_t left;              /* of the limit; UINT64_MAX: there is none */
	bool placed;                /* `place` is where the answer begins */
};

/* A claim that had no process when it was told, or that the filter did not take because it had none. */
struct unattributed {
	int64_t claim;
	bool told;
};

struct follow_stream {
	TAILQ_ENTRY(request) entry;
	struct filter filter;
	struct follow_place place;
	bool only_new;  /* what was never seen before; then only `news` is a place */
	int64_t news;   /* the last announcement that was looked at */
	int64_t listed; /* claims up to this number are what was open at first */
	uint64_t lost;  /* skipped since the last reply */
	struct unattributed
		*unattributed; /* owned; room for FOLLOW_UNATTRIBUTED, the newest of them */
	size_t unattributed_count;
	bool started; /* in the list of followers */
	bool listing; /* what was open at first is not all given yet */
	bool greeted; /* there was a reply */
};

/* A call in hand; freed when it is answered, or its client is gone. */
struct request {
	struct methods *methods;
	struct client *client;
	struct varlink_call call;
	const struct method *method;
	struct now asked;
	struct waiter waiter;
	enum look look; /* how the look that it asked for ended; LOOK_DONE where it needed none */
	bool looked;    /* it has asked for one */
	struct window window; /* fixed when asked */
	union {
		struct claims_stream claims;
		struct released_stream released;
		struct follow_stream follow;
		struct failures_stream failures;
		struct {
			uint16_t port;
			int protocol;
			const char *netns; /* the call's; NULL: any */
		} explain;
		struct {
			struct filter filter;
			usec_t bound_before; /* wall */
		} listeners;
		struct {
			struct filter filter;
			size_t limit;
		} pressure;
		struct {
			struct filter filter;
			const char *name; /* the call's; NULL: all */
			bool only_new;
		} apps;
		struct {
			struct filter filter;
			struct steps steps;
		} picture;
		struct {
			struct filter filter;
			enum audit_by by;
		} audit;
		struct {
			struct flow *flow; /* owned */
			size_t count;
		} flows;
	};
};

/* What a step of a method left to do. Negative errno: the call ends with the error that it stands for. */
enum outcome {
	ANSWERED = 0, /* the call is answered */
	GOES_ON = 1,  /* more comes: when there is room, or something is committed */
	REFUSED = 2,  /* answered with an error of the protocol */
};

enum parameter_kind {
	PARAMETER_INTEGER,
	PARAMETER_STRING,
	PARAMETER_BOOLEAN,
	PARAMETER_OBJECT,
	PARAMETER_ARRAY,
};

struct parameter {
	const char *name; /* NULL ends a list */
	enum parameter_kind kind;
	bool required;
};

/* When the ledger must look before the answer. */
enum looks {
	LOOKS_NEVER,
	LOOKS_ALWAYS,
	LOOKS_UNLESS_PAST, /* not where the whole window is committed */
};

struct method {
	const char *name;
	const struct parameter *parameters;
	enum looks looks;
	bool streams_only;               /* `more` must be set */
	int (*parse)(struct request *r); /* ANSWERED (go on), REFUSED, or an error; may be NULL */
	int (*run)(struct request *r);   /* inside a read transaction, unless LOOKS_NEVER */
	int (*go_on)(struct request *r); /* the same, after GOES_ON: there is room */
	void (*done)(struct request *r); /* frees what it holds; may be NULL */
	/* answers although the database cannot be read; may be NULL */
	int (*without_store)(struct request *r, int error);
};

/* methods.c */
/* Sends a reply, `text` being the JSON of its parameters. 0 or -ENOMEM. */
int request_reply(struct request *r, struct buf *text, bool continues) _must_check_;
/* Sends a page of an answer. Of one that streams, all but the `last` say that more comes, and wait for room for it:
 * ANSWERED, GOES_ON or -ENOMEM. */
int request_reply_page(struct request *r, struct buf *text, bool last) _must_check_;
/* Sends an error with one string parameter (NULL: none). REFUSED or -ENOMEM. */
int request_refuse(struct request *r, const char *error, const char *name, const char *value);
int refuse_parameter(struct request *r, const char *name); /* InvalidParameter */
int refuse_range(struct request *r, const char *name);     /* InvalidRange */

/* methods_params.c; each ANSWERED, REFUSED or an error. Absent and null are the same: *ret stays as it was. */
int take_integer(struct request *r, const char *name, int64_t low, int64_t high, int64_t *ret);
int take_window(struct request *r, const char *from_name, const char *until_name);
/* The call's window as far as anything is known of it. What is asked of now is told of when the ledger looked, which was later than
 * the question; and what is open now has not lived until a time that is still to come. */
struct window looked_window(const struct request *r);
int take_protocol(struct request *r, int *ret);
int take_filter(struct request *r, struct filter *filter);
const char *take_string(const struct request *r, const char *name); /* NULL: absent */
bool take_boolean(const struct request *r, const char *name);       /* false: absent */
int check_parameters(struct request *r);

/* methods_claims.c */
extern const struct method method_who, method_claims, method_audit;
/* Appends `,"coverage":` and the receipt of the call's window, for what was asked for. */
int append_coverage(struct request *r, const struct filter *asked, struct buf *text) _must_check_;
/* Appends rows [*next, ...) as the elements of a JSON array, as many as a page holds. */
int append_rows(
	struct request *r, const struct rows *rows, size_t *next, struct buf *text) _must_check_;

/* methods_failures.c */
extern const struct method method_failures;

/* methods_explain.c */
extern const struct method method_explain;

/* methods_apps.c */
extern const struct method method_apps;

/* methods_ports.c */
extern const struct method method_listeners, method_pressure;

/* methods_pictures.c */
/* methods_released.c */
extern const struct method method_released;

/* methods_flows.c */
extern const struct method method_annotate, method_receipt;

extern const struct method method_activity, method_occupancy;

/* methods_follow.c */
extern const struct method method_follow;
void follow_committed(struct request *r);

/* methods_status.c */
extern const struct method method_status, method_doctor;
/* Appends the receipt of the call's window, with what is wrong now; `of` says the rest. */
int append_receipt(struct request *r, struct receipt_of of, struct buf *text) _must_check_;
/* What a negative errno of a query means, for people. */
const char *store_trouble(int error);
