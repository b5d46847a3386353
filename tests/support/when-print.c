/* SPDX-License-Identifier: MIT */

/*
 * when-print [--now USEC] [--span | --windows] [--] TEXT...: one line for each text with what common/when makes of it, in
 * microseconds ("FROM..UNTIL" for each window), or the name of the error. The zone is $TZ. For test_when_oracle.py.
 */

#include "common/when.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

enum question {
	QUESTION_MOMENT,
	QUESTION_SPAN,
	QUESTION_WINDOWS,
};

static void print_windows(const char *text, usec_t now)
{
	struct window windows[WHEN_WINDOWS_MAX];
	int r = when_parse(text, now, windows);

	if (r < 0)
		printf("%s", strerrorname_np(-r));
	for (int i = 0; i < r; i++)
		printf("%s%" PRIu64 "..%" PRIu64, i > 0 ? " " : "", windows[i].from,
			windows[i].until);
	printf("\n");
}

static void print_value(int r, const usec_t *value)
{
	if (r < 0)
		printf("%s\n", strerrorname_np(-r));
	else
		printf("%" PRIu64 "\n", *value);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{"now", required_argument, NULL, 'n'},
		{"span", no_argument, NULL, 's'},
		{"windows", no_argument, NULL, 'w'},
		{0},
	};
	enum question question = QUESTION_MOMENT;
	usec_t now = clock_now().wall, value = 0;
	int c;

	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1)
		if (c == 'n')
			now = strtoull(optarg, NULL, 10);
		else if (c == 's')
			question = QUESTION_SPAN;
		else if (c == 'w')
			question = QUESTION_WINDOWS;
		else
			return EXIT_FAILURE;

	for (int i = optind; i < argc; i++)
		switch (question) {
		case QUESTION_MOMENT:
			print_value(when_parse_moment(argv[i], now, &value), &value);
			break;
		case QUESTION_SPAN:
			print_value(when_parse_span(argv[i], &value), &value);
			break;
		case QUESTION_WINDOWS:
			print_windows(argv[i], now);
			break;
		}
	return EXIT_SUCCESS;
}
