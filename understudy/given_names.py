"""Common given names with the gender that they tell; a title or the pronouns of a text say more."""

from __future__ import annotations

_MEN = """adam albert alexander alfred alan allan andrew anthony archibald archie arthur ashley august augustus barnaby
    bartholomew basil ben benjamin bernard bertie bertram bill billy bob bobby bruce cecil charles charley charlie
    christopher clarence clement clifford cyril dan daniel david denis dennis dick donald douglas duncan eddie
    edgar edmund edward edwin eliot ernest eric eugene eustace felix ferdinand francis frank franklin fred freddy
    frederick geoffrey george gerald gilbert godfrey gordon graham gregory gus guy hal harold harry hector henry
    herbert hiram horace howard hubert hugh humphrey ian ignatius isaac ivan jack jacob jake james jasper jay jeff
    jeremiah jeremy jerry jim jimmy joe joel john johnny jonas jonathan joseph joshua julian julius justin keith
    ken kenneth lancelot larry laurence lawrence leo leonard leopold lewis lionel louis luke malcolm mark
    marmaduke martin matthew maurice max maximilian michael mike miles montague mortimer moses nathan nathaniel
    ned neil nicholas nick nigel noah noel norman oliver oscar oswald owen patrick paul percival percy peter phil
    philip phineas piers ralph ray raymond reginald rex reuben richard robert robin roderick roger roland ronald
    rudolf rudolph rufus rupert sam samson samuel sebastian septimus seth sidney silas simeon simon solomon
    stanley stephen steven stewart stuart sydney ted teddy terence theodore thomas tim timothy toby tobias tom
    tommy tony tristram uriah valentine vernon victor vincent vivian wallace walter wilfred wilfrid will william
    willie willy winston hans fritz karl heinrich wilhelm otto pierre jean jacques françois henri marcel pedro
    juan carlos josé giovanni paolo giuseppe antonio pavel sergei alexei dmitri mikhail nikolai boris"""
_WOMEN = """abigail ada adela adelaide adele agatha agnes alexandra alice amanda amelia amy angela angelica ann anna
    annabel anne annie antonia arabella audrey augusta barbara beatrice becky bella bertha bess bessie beth betsy betty
    blanche bridget camilla carla carol caroline carrie cassandra catherine cecilia cecily celia charlotte chloe
    christina christine clara clarissa claudia clementina constance cora cordelia cynthia daisy daphne deborah
    delia diana dinah dolly dora dorothea dorothy edith edna effie eleanor eliza elizabeth ella ellen elsie emily
    emma esther ethel eugenia eunice eva eve eveline evelyn fanny felicity flora florence frances gabrielle
    georgiana geraldine gertie gertrude gladys grace gwen gwendolen hannah harriet hattie helen helena henrietta
    hermione hester hetty hilda honora ida imogen irene iris isabel isabella ivy jane janet jean jemima jennie
    jenny jessica jessie joan joanna josephine joyce judith judy julia juliana julie juliet kate katharine
    katherine kathleen katie kitty laura lavinia leila lena leonora letitia letty lilian lillian lily lizzie lizzy
    lois lottie louisa louise lucinda lucretia lucy lydia mabel madeleine madge maggie marcella margaret margery
    maria marian marianne marie marion marjorie martha mary matilda maud maude may meg melissa mercy mildred
    millicent minnie mirabel miranda miriam molly muriel myra nancy nellie nelly nettie nora olive olivia ophelia
    pamela patience patty pauline pearl peggy penelope phoebe phyllis polly portia priscilla prudence rachel
    rebecca rhoda rosa rosalie rosalind rosamond rosamund rose rosemary rosie ruby ruth sabina sally sarah selina
    sheila sibyl sophia sophie sophy stella susan susanna susannah susie sybil sylvia tabitha tess theodora
    theresa thomasina tilly ursula vanessa vera veronica victoria viola violet virginia winifred yvonne zoe
    gretchen greta heidi ingrid marguerite natasha tatiana olga sonia anastasia katya carmen dolores lucia bianca
    beatriz"""
GIVEN = {**dict.fromkeys(_MEN.split(), "m"), **dict.fromkeys(_WOMEN.split(), "f")}
