# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# bash completion for portledger. What there is to complete is read from the program's own help, and values of filters from
# what the daemon has seen, by -F. Those are other people's bytes: nothing here is ever expanded.

# Asks the daemon, for a moment at most.
_portledger_ask() {
	timeout 2 "$_portledger_program" ${_portledger_socket:+--socket "$_portledger_socket"} "$@" --no-pager 2>/dev/null </dev/null
}

# Of a verb ('': all): its options, a line each: name, letter, whether it takes a value.
_portledger_options() {
	local line name letter
	while IFS= read -r line; do
		[[ $line =~ ^\ \ (-[A-Za-z]|\ \ )(\ (--[a-z-]+)(=?)[^\ ]*)?\ + ]] || continue
		letter=${BASH_REMATCH[1]// /} name=${BASH_REMATCH[3]}
		[[ -n $letter$name ]] && printf '%s %s %s\n' "${name:--}" "${letter:--}" "${BASH_REMATCH[4]:-no}"
	done < <("$_portledger_program" help ${1:+"$1"} 2>/dev/null)
}

_portledger_verbs() {
	local line
	while IFS= read -r line; do
		[[ $line =~ ^\ \ ([a-z]+)\  && ${BASH_REMATCH[1]} != portledger ]] && printf '%s\n' "${BASH_REMATCH[1]}"
	done < <("$_portledger_program" help 2>/dev/null)
}

# Does the verb take ports? Its line in the help says so.
_portledger_takes_ports() {
	local line
	while IFS= read -r line; do
		[[ $line == "  $1 "*PORT* && $line != "  portledger "* ]] && return 0
	done < <("$_portledger_program" help 2>/dev/null)
	return 1
}

# The columns of a verb's rows.
_portledger_columns() {
	case $1 in
	who | follow | explain | '') set -- now ;;
	esac
	case $1 in
	audit) set -- audit -S -1min ;;
	now | history) set -- "$1" -n 1 ;;
	esac
	_portledger_ask "$@" --csv | head -n 1 | tr -d '\r' | tr , '\n'
}

_portledger_ports() {
	_portledger_ask now -F port
	_portledger_ask history -S -24h -n 1000 -F port
}

# The values of an option, a line each.
_portledger_values() {
	case $1 in
	--app) _portledger_ask audit -S -24h -F comm ;;
	--unit) _portledger_ask audit -S -24h -F unit ;;
	--user) _portledger_ask audit -S -24h -F user ;;
	--pid) _portledger_ask now -F pid ;;
	--netns) _portledger_ask now -F netns_name ;;
	--addr) _portledger_ask now -F local_address ;;
	--peer) _portledger_ask now -F remote_address ;;
	--field | -F | --columns) _portledger_columns "$2" ;;
	--proto) printf '%s\n' tcp udp udplite mptcp ;;
	--role) printf '%s\n' connected listening bound accepted ;;
	--range) printf '%s\n' iana kernel ;;
	--by) printf '%s\n' program unit user port hour netns ;;
	--diff) printf '%s\n' yesterday 'last week' 'last night' ;;
	--format) printf '%s\n' ndjson csv sqlite ;;
	--fields) printf '%s\n' eve ek zeek ;;
	--json) printf '%s\n' pretty short off ;;
	--color) printf '%s\n' auto always never ;;
	--at | --since | -S | --until | -U) printf '%s\n' now today yesterday 'last night' -1h -24h ;;
	--socket | --config | --to | --output | -o | --cursor-file) compgen -f -- "$3" ;;
	esac
}

# Adds the lines that begin with the word as they are; nothing in them is expanded.
_portledger_reply() {
	local line
	while IFS= read -r line; do
		[[ -n $line && $line == "$1"* ]] && COMPREPLY+=("$(printf '%q' "$line")")
	done
}

# $_portledger_program, $_portledger_socket; verb in $1, the option whose value is wanted in $2, the word so far in $3.
_portledger_complete() {
	local name letter value
	if [[ -n $2 ]]; then
		_portledger_reply "$3" < <(_portledger_values "$2" "$1" "$3")
		return
	fi
	if [[ $3 == -* ]]; then
		_portledger_reply "$3" < <(_portledger_options "$1" | while read -r name letter value; do
			[[ $name == - ]] && name=$letter
			[[ $value == = ]] && name+='='
			printf '%s\n' "$name"
		done)
		[[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
		return
	fi
	case $1 in
	'') _portledger_reply "$3" < <(_portledger_verbs; [[ $3 == [0-9]* ]] && _portledger_ports) ;;
	help) _portledger_reply "$3" < <(_portledger_verbs) ;;
	app) _portledger_reply "$3" < <(_portledger_ask audit -S -24h -F comm; _portledger_ask apps -F name) ;;
	*) _portledger_takes_ports "$1" && _portledger_reply "$3" < <(_portledger_ports | sort -un) ;;
	esac
}

_portledger() {
	local _portledger_program=$1 _portledger_socket=${PORTLEDGER_SOCKET-}
	local -a words=()
	local i word verb='' wants='' options cur name letter value
	COMPREPLY=()
	# "--app=x" is one word for the program, and three for readline
	for ((i = 1; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == = && ${#words[@]} -gt 0 ]]; then
			words[-1]+='='
		elif [[ ${#words[@]} -gt 0 && ${words[-1]} == --*= ]]; then
			words[-1]+=$word
		else
			words+=("$word")
		fi
	done
	cur=${words[-1]}
	unset 'words[-1]'
	options=$(_portledger_options '')
	for word in "${words[@]}"; do
		if [[ -n $wants ]]; then
			[[ $wants == --socket ]] && _portledger_socket=$word
			wants=''
		elif [[ $word == --socket=* ]]; then
			_portledger_socket=${word#*=}
		elif [[ $word == -* && $word != *=* ]]; then
			while read -r name letter value; do
				[[ $value == = && ($name == "$word" || $letter == "$word") ]] && wants=$word
			done <<<"$options"
		elif [[ $word != -* && -z $verb ]]; then
			verb=$word
			[[ $verb == [0-9]* ]] && verb=explain
		fi
	done
	if [[ -z $wants && $cur == --*=* ]]; then
		wants=${cur%%=*}
		cur=${cur#*=}
	fi
	_portledger_complete "$verb" "$wants" "$cur"
}

complete -F _portledger portledger
