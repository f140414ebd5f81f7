package ftpconn

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// monthWord returns the month that w names, 0 if none: the English abbreviations at once, any other
// word from the table, remembered for this listing.
func (p *listParser) monthWord(w []byte) int {
	if len(w) == 3 {
		if m := englishMonth(w); m != 0 {
			return m
		}
	}
	if len(w) > 32 {
		return 0
	}
	if m, ok := p.months[string(w)]; ok {
		return int(m)
	}
	m := otherMonth(w)
	if p.months == nil {
		p.months = make(map[string]uint8)
	}
	if len(p.months) < 256 {
		p.months[string(w)] = uint8(m)
	}
	return m
}

func englishMonth(w []byte) int {
	switch uint32(w[0]|0x20)<<16 | uint32(w[1]|0x20)<<8 | uint32(w[2]|0x20) {
	case 'j'<<16 | 'a'<<8 | 'n':
		return 1
	case 'f'<<16 | 'e'<<8 | 'b':
		return 2
	case 'm'<<16 | 'a'<<8 | 'r':
		return 3
	case 'a'<<16 | 'p'<<8 | 'r':
		return 4
	case 'm'<<16 | 'a'<<8 | 'y':
		return 5
	case 'j'<<16 | 'u'<<8 | 'n':
		return 6
	case 'j'<<16 | 'u'<<8 | 'l':
		return 7
	case 'a'<<16 | 'u'<<8 | 'g':
		return 8
	case 's'<<16 | 'e'<<8 | 'p':
		return 9
	case 'o'<<16 | 'c'<<8 | 't':
		return 10
	case 'n'<<16 | 'o'<<8 | 'v':
		return 11
	case 'd'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

// otherMonth looks w up without its dot or comma, in lower case: as UTF-8 or, if it isn't that, in
// the eight-bit encodings of the languages in the table.
func otherMonth(w []byte) int {
	w = bytes.TrimRight(w, ".,")
	if utf8.Valid(w) {
		return monthByName(strings.ToLower(string(w)))
	}
	for _, c := range [...]*charmap.Charmap{
		charmap.ISO8859_1, charmap.ISO8859_2, charmap.Windows1251, charmap.KOI8R,
		charmap.ISO8859_5, charmap.ISO8859_7, charmap.ISO8859_9, charmap.CodePage866,
	} {
		text, err := c.NewDecoder().Bytes(w)
		if err != nil {
			continue
		}
		if m := monthByName(strings.ToLower(string(text))); m != 0 {
			return m
		}
	}
	return 0
}

// monthByName knows the abbreviations of glibc's and other locales, lower case and without dot. Where two
// languages use one word for different months, the one with more speakers has it (Polish lip, Czech srp).
func monthByName(w string) int {
	switch w {
	case "jan", "january", "januar", "jän", "jänner", "januari", "janv", "janvier", "gen", "gennaio", "ene", "enero", "janeiro",
		"jaan", "led", "leden", "sty", "stycznia", "oca", "ocak", "ян", "янв", "января", "январь", "січ", "січня", "яну", "јан", "студз", "сту",
		"ιαν", "ian", "ianuarie", "tammi", "tam", "tammikuu", "sau", "saus", "sij", "urt", "januára", "ינו", "ม.ค", "th01", "يناير":
		return 1
	case "feb", "february", "februar", "februari", "févr", "fevr", "fév", "fev", "février", "febbraio", "febrero", "fevereiro", "febr",
		"veebr", "úno", "unor", "únor", "uno", "lut", "luty", "lutego", "şub", "şubat", "sub", "фев", "февр", "февраля", "февраль", "лют", "лютого", "феб",
		"φεβ", "φεβρ", "helmi", "hel", "helmikuu", "vas", "velj", "vel", "ots", "פבר", "ก.พ", "th02", "فبراير":
		return 2
	case "mar", "march", "mär", "mrz", "märz", "maer", "maerz", "mars", "mrs", "marts", "marzo", "março", "marec", "mart", "maart", "mrt", "mrc",
		"märts", "bře", "březen", "bre", "marca", "marzec", "мар", "мрт", "март", "марта", "бер", "березня", "сак",
		"μαρ", "μάρ", "μαρτ", "martie", "maalis", "maa", "maaliskuu", "kov", "ožu", "ozu", "márc", "már", "març", "מרץ", "มี.ค", "th03", "مارس":
		return 3
	case "apr", "april", "avr", "avril", "aprile", "abr", "abril", "dub", "duben", "kwi", "kwiecień", "kwietnia", "nis", "nisan",
		"апр", "апреля", "апрель", "кві", "квіт", "квітня", "крас", "кра", "απρ", "aprilie", "huhti", "huh", "huhtikuu", "bal", "tra", "ápr", "api", "אפר", "เม.ย", "th04", "أبريل":
		return 4
	case "may", "mai", "maj", "mei", "maio", "mayo", "mag", "maggio", "maig", "mayıs", "máj", "květen", "kvě", "kve", "maja", "maí", "maijs",
		"мая", "май", "маи", "мај", "трав", "тра", "травня", "μαΐ", "μαϊ", "μαι", "μάι", "touko", "tou", "toukokuu", "geg", "svi", "מאי", "พ.ค", "th05", "مايو":
		return 5
	case "jun", "june", "juni", "juin", "giu", "giugno", "junio", "junho", "juny", "juuni", "čen", "čer", "červen", "cer", "cen", "cze", "czerwiec", "czerwca",
		"haz", "haziran", "июн", "июня", "июнь", "чер", "черв", "червня", "юни", "јун", "чэр", "ιουν", "ιούν", "iun", "iunie", "kesä", "kes", "kesäkuu", "bir", "jún", "júní", "jūn", "eka", "יונ", "יוני", "มิ.ย", "th06", "يونيو":
		return 6
	case "jul", "july", "juli", "juil", "jui", "juill", "juillet", "lug", "luglio", "julio", "julho", "juliol", "juuli", "čec", "čvc", "červenec", "cec", "lip", "lipiec", "lipca",
		"tem", "temmuz", "июл", "июля", "июль", "липня", "лип", "юли", "јул", "ліп", "ιουλ", "ιούλ", "iul", "iulie", "heinä", "hei", "heinäkuu", "lie", "júl", "júlí", "jūl", "uzt", "יול", "יולי", "ก.ค", "th07", "يوليو":
		return 7
	case "aug", "august", "augustus", "août", "aoû", "aout", "aou", "ago", "agosto", "agost", "ag", "srp", "srpen", "sie", "sierpień", "sierpnia", "ağu", "ağustos", "agu",
		"авг", "августа", "август", "сер", "серп", "серпня", "жні", "жнів", "αυγ", "αύγ", "elo", "elokuu", "rgp", "avg", "avgust", "ágú", "abu", "kol", "אוג", "ส.ค", "th08", "أغسطس":
		return 8
	case "sep", "sept", "september", "septembre", "set", "sett", "settembre", "septiembre", "setembro", "zář", "září", "zar", "wrz", "wrzesień", "września",
		"eyl", "eylül", "сен", "сент", "сентября", "сентябрь", "вер", "вересня", "септ", "сеп", "вера", "σεπ", "σεπτ", "septembrie", "syys", "syy", "syyskuu", "rgs", "rugs", "szept", "szep", "ruj", "ira", "ספט", "ก.ย", "th09", "سبتمبر":
		return 9
	case "oct", "october", "okt", "oktober", "octobre", "ott", "ottobre", "octubre", "out", "outubro", "říj", "říjen", "rij", "paź", "paz", "październik", "października",
		"eki", "ekim", "окт", "октября", "октябрь", "жов", "жовт", "жовтня", "кас", "οκτ", "octombrie", "loka", "lok", "lokakuu", "spa", "spal", "október", "urr", "אוק", "ต.ค", "th10", "أكتوبر":
		return 10
	case "nov", "november", "novembre", "noviembre", "novembro", "lis", "listopad", "listopada", "kas", "kasım", "ноя", "нояб", "ноября", "ноябрь", "лис", "лист", "листопада", "ноем", "ное", "нов",
		"νοε", "νοέ", "noi", "noiem", "noiembrie", "marras", "marraskuu", "lap", "lapkr", "nóv", "stu", "aza", "נוב", "พ.ย", "th11", "نوفمبر":
		return 11
	case "dec", "december", "dez", "dezember", "déc", "décembre", "dic", "dicembre", "diciembre", "dezembro", "des", "desember", "desembre", "dets", "pro", "prosinec", "gru", "grudzień", "grudnia",
		"ara", "aralık", "дек", "декабря", "декабрь", "гру", "груд", "грудня", "дец", "сне", "снеж", "δεκ", "decembrie", "joulu", "jou", "joulukuu", "grd", "gruod", "abe", "דצמ", "ธ.ค", "th12", "ديسمبر":
		return 12
	}
	return 0
}
